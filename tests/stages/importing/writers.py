"""Tiny data sets in exactly the published layouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

SHAPE = (6, 8, 10)  # (z, y, x)


def voxels(seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def blob(*values: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """One 2x2x2 cube a value, side by side along x."""
    labels = np.zeros(shape, np.uint8)
    for place, value in enumerate(values):
        labels[2:4, 2:4, 2 * place : 2 * place + 2] = value
    return labels


def write_nifti(path: Path, array: np.ndarray, spacing: float = 1.0) -> None:
    """Write (Z, Y, X), or (Z, Y, X, volumes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = (2, 1, 0, *range(3, array.ndim))
    image = nibabel.Nifti1Image(array.transpose(axes), np.diag([spacing, spacing, spacing, 1.0]))
    nibabel.save(image, path)


def write_nrrd(path: Path, array: np.ndarray, *, spacing: float = 1.0, extent: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    if extent is not None:
        image.SetMetaData("Segment0_Extent", extent)
    SimpleITK.WriteImage(image, str(path), True)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def nnunet(
    folder: Path,
    ids: Sequence[str],
    *,
    channels: Sequence[str] = ("CT",),
    labels: Mapping[str, object] | None = None,
    values: Sequence[int] = (1, 2),
    **more: object,
) -> Path:
    """Write a data set of nnU-Net version 2."""
    for seed, id in enumerate(ids):
        for number in range(len(channels)):
            write_nifti(folder / "imagesTr" / f"{id}_{number:04d}.nii.gz", voxels(10 * seed + number))
        write_nifti(folder / "labelsTr" / f"{id}.nii.gz", blob(*values))
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "kidney_left": 1, "kidney_right": 2},
        "numTraining": len(ids),
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", description | more)
    return folder


def decathlon(folder: Path, ids: Sequence[str], *, modalities: Sequence[str] = ("FLAIR", "T1w")) -> Path:
    """Write a task of the Medical Segmentation Decathlon, `._` litter included."""
    entries = []
    for seed, id in enumerate(ids):
        shape = SHAPE if len(modalities) == 1 else (*SHAPE, len(modalities))
        write_nifti(folder / "imagesTr" / f"{id}.nii.gz", voxels(seed, shape))
        write_nifti(folder / "labelsTr" / f"{id}.nii.gz", blob(1, 2))
        (folder / "imagesTr" / f"._{id}.nii.gz").write_bytes(b"litter")
        entries.append({"image": f"./imagesTr/{id}.nii.gz", "label": f"./labelsTr/{id}.nii.gz"})
    description = {
        "name": "BrainTumour",
        "tensorImageSize": "4D",
        "modality": {str(number): name for number, name in enumerate(modalities)},
        "labels": {"0": "background", "1": "edema", "2": "enhancing tumour"},
        "numTraining": len(ids),
        "numTest": 0,
        "training": entries,
        "test": [],
    }
    write_json(folder / "dataset.json", description)
    return folder


def hanseg(folder: Path, organs: Mapping[str, Sequence[str]]) -> Path:
    """Write cases of HaN-Seg below `set_1`; `organs`: case -> the organs that have a mask there.

    Every organ is one 2x2x2 cube in a place of its own; "Bone_Mandible" is said to extend further.
    """
    for seed, (id, names) in enumerate(organs.items()):
        place = folder / "set_1" / id
        write_nrrd(place / f"{id}_IMG_CT.nrrd", voxels(seed))
        write_nrrd(place / f"{id}_IMG_MR_T1.nrrd", voxels(100 + seed, (4, 5, 6)), spacing=1.5)
        for number, name in enumerate(names):
            extent = "0 9 0 7 0 5" if name == "Bone_Mandible" else "2 3 2 3 2 3"
            write_nrrd(place / f"{id}_OAR_{name}.seg.nrrd", np.roll(blob(1), 2 * number, axis=2), extent=extent)
    return folder
