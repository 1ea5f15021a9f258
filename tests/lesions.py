"""Small heads with lesions of a few voxels, and vessels of the same brightness and width that are none."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

NOISE = 12.0
BRIGHT = 100.0


def write(
    folder: Path,
    *,
    cases: int,
    side: int = 40,
    lesions: int = 3,
    vessels: int = 0,
    radius: float = 2.0,
    lacking: int = -1,
) -> Path:
    """Write a data set in nnU-Net's layout: cubes of `side` voxels of 1 mm, `lesions` balls and `vessels` rods each.

    From 0, `lacking` is the case without the second channel, which all others have.
    """
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for number in range(cases):
        image, truth = scan(number, side=side, lesions=lesions, vessels=vessels, radius=radius)
        if 0 <= lacking != number:
            save(folder / "imagesTr" / f"M_{number:02d}_0001.nii.gz", 2 * image)
        save(folder / "imagesTr" / f"M_{number:02d}_0000.nii.gz", image)
        save(folder / "labelsTr" / f"M_{number:02d}.nii.gz", truth)
    names = {"0": "MRI"} | ({"1": "T2"} if lacking >= 0 else {})
    content = {"channel_names": names, "labels": {"background": 0, "metastasis": 1}}
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": cases, "file_ending": ".nii.gz"}))
    return folder


def scan(number: int, *, side: int, lesions: int, vessels: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (float32) and its labels (uint8), (Z, Y, X)."""
    rng = np.random.default_rng([0, number])
    place = np.indices((side,) * 3, dtype=np.float32)
    bright, truth, taken = np.zeros((side,) * 3, bool), np.zeros((side,) * 3, np.uint8), []
    while len(taken) < lesions + vessels:
        centre = rng.uniform(5, side - 6, 3)
        if any(np.linalg.norm(centre - other) < 4 * radius + 3 for other in taken):
            continue
        taken.append(centre)
        if len(taken) <= lesions:
            ball = ((place - centre[:, None, None, None]) ** 2).sum(0) < radius**2
            bright |= ball
            truth[ball] = 1
        else:
            bright |= _rod(place, centre, rng, radius)
    image = 200 + BRIGHT * bright + rng.normal(0, NOISE, bright.shape)
    return image.astype(np.float32), np.where(truth == 1, 1, 0).astype(np.uint8)


def _rod(place: np.ndarray, centre: np.ndarray, rng: np.random.Generator, radius: float) -> np.ndarray:
    """Return a rod through `centre`, as wide as a lesion and five times as long."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    offset = place - centre[:, None, None, None]
    along = np.tensordot(axis, offset, 1)
    across = (offset**2).sum(0) - along**2
    return (across < radius**2) & (abs(along) < 5 * radius)


def save(path: Path, array: np.ndarray) -> None:
    """Write a (Z, Y, X) array of 1 mm voxels as NIfTI by nibabel, an implementation that is not autoseg's."""
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.diag([-1.0, -1.0, 1.0, 1.0])), path)
