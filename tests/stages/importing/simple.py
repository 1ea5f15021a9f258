"""Tiny data sets as TotalSegmentator, folders of pictures and manifests have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.stages.importing.writers import blob, voxels, write_nifti


def totalsegmentator(folder: Path, structures: Mapping[str, Sequence[str]], *, image: str = "ct") -> Path:
    """Write cases; `structures`: case -> the structures that have a mask there."""
    for seed, (id, names) in enumerate(structures.items()):
        write_nifti(folder / id / f"{image}.nii.gz", voxels(seed))
        for name in names:
            write_nifti(folder / id / "segmentations" / f"{name}.nii.gz", blob(1))
    return folder


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def mask(*values: int) -> np.ndarray:
    array = np.zeros((8, 10), np.uint8)
    for place, value in enumerate(values):
        array[2:4, 2 * place : 2 * place + 2] = value
    return array


def photo(seed: int, colours: int = 1) -> np.ndarray:
    shape = (8, 10) if colours == 1 else (8, 10, colours)
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)


def pictures(folder: Path, ids: Sequence[str], *, colours: int = 1) -> Path:
    """Write `images/x.png` and `masks/x.png` with the values 0 and 255."""
    for seed, id in enumerate(ids):
        picture(folder / "images" / f"{id}.png", photo(seed, colours))
        picture(folder / "masks" / f"{id}.png", mask(255))
    return folder


def manifest(folder: Path, ids: Sequence[str]) -> Path:
    """Write `cases.csv` with the channels CT and PET."""
    lines = ["case,image:CT,image:PET,label"]
    for seed, id in enumerate(ids):
        write_nifti(folder / "scans" / f"{id}_ct.nii.gz", voxels(seed))
        write_nifti(folder / "scans" / f"{id}_pet.nii.gz", voxels(100 + seed))
        write_nifti(folder / "truth" / f"{id}.nii.gz", blob(1, 2))
        lines.append(f"{id},scans/{id}_ct.nii.gz,./scans/{id}_pet.nii.gz,truth/{id}.nii.gz")
    (folder / "cases.csv").write_text("\n".join(lines))
    return folder / "cases.csv"
