"""Image files in and out: one door for every format, chosen by suffix.

With dicom.py and register.py the only rooms that know a library's axis order: what leaves here is (Z, Y, X) on a
Grid in LPS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images import itk_files, nifti, pictures
from autoseg.images.header import VolumeHeader, require_file
from autoseg.records.errors import DataError, ResourceError
from autoseg.records.geometry import Grid
from autoseg.storage import writing

__all__ = [
    "SUFFIXES",
    "VolumeHeader",
    "is_image",
    "read_header",
    "read_noted",
    "read_volume",
    "strip_suffix",
    "write_volume",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd")
TWO_FILE_SUFFIXES = (".nhdr", ".mhd")  # read, never written
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SUFFIXES: tuple[str, ...] = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *PICTURE_SUFFIXES)


def is_image(path: Path) -> bool:
    """Return whether the name is one of an image; `._x.nii.gz`, `.DS_Store` and other hidden files are none."""
    return not path.name.startswith(".") and _suffix(path.name) is not None


def strip_suffix(name: str) -> str:
    """Return a file's name without its image suffix (`x.nii.gz` and `x.seg.nrrd` are both `x`)."""
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def read_volume(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, Grid]:
    """Return the voxels of one volume and where they lie.

    Args:
        path: A file with one of SUFFIXES.
        volume: Which volume of a 4D file, layer of a vector or colour of a picture, from 0; None where there is one.

    Returns:
        (Z, Y, X) in the stored type (floating where the header scales it), NaN kept; and its grid.

    Raises:
        DataError: The file is missing, damaged, of an unknown format, on an impossible grid, or holds several
            volumes and none was named.
    """
    array, header = read_noted(path, volume=volume)
    return array, header.grid


def read_noted(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, VolumeHeader]:
    """Return the voxels as `read_volume` does, and the header with its notes.

    Raises:
        DataError: See `read_volume`.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if suffix in NIFTI_SUFFIXES:
        return nifti.read(path, volume=volume)
    if suffix in ITK_SUFFIXES:
        return itk_files.read(path, volume=volume)
    return pictures.read(path, volume=volume)


def read_header(path: Path) -> VolumeHeader:
    """Return a file's geometry, volumes and type without reading its voxels (a picture is read whole).

    Raises:
        DataError: See `read_volume`; damage behind the header is not seen.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if suffix in NIFTI_SUFFIXES:
        return nifti.read_header(path)
    if suffix in ITK_SUFFIXES:
        return itk_files.read_header(path)
    return pictures.read_header(path)


def write_volume(path: Path, array: np.ndarray, grid: Grid, *, description: str = "") -> None:
    """Write a volume so that it is there whole or not at all; equal input gives equal bytes.

    Args:
        path: Its suffix chooses the format.
        array: (Z, Y, X) of the grid's shape; bool is written as bytes, other types as they are.
        grid: Where the voxels lie; a picture does not keep it.
        description: For people, where the format has a place for it.

    Raises:
        DataError: The format is unknown or cannot hold the array.
        ResourceError: The disk is full or the folder cannot be written; an old file stays as it was.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if array.shape != grid.shape:
        raise ValueError(f"array of shape {array.shape} for a grid of {grid.shape}")
    if suffix in TWO_FILE_SUFFIXES:  # two files cannot come to be there at once
        fix = "Write .nrrd or .mha instead."
        raise DataError("keeps its voxels in a second file", file=path, fix=fix, code="cannot_hold")
    array = np.ascontiguousarray(array, dtype=_stored_type(array.dtype))
    if suffix in ITK_SUFFIXES:
        with writing(path) as temporary:
            itk_files.write(temporary, array, grid, description=description)
            _verify(path, temporary, array)
        return
    if suffix in NIFTI_SUFFIXES:
        content = nifti.encode(path, array, grid, description=description)
    else:
        content = pictures.encode(path, array)
    with writing(path) as temporary:
        temporary.write_bytes(content)
        if temporary.stat().st_size != len(content):
            raise _not_written(path)


def _verify(path: Path, temporary: Path, array: np.ndarray) -> None:
    # SimpleITK does not report a full disk: only reading tells whether everything is there.
    try:
        same = np.array_equal(itk_files.read(temporary)[0], array, equal_nan=array.dtype.kind == "f")
    except DataError:
        same = False
    if not same:
        raise _not_written(path)


def _not_written(path: Path) -> ResourceError:
    return ResourceError(
        "was not written completely",
        file=path,
        fix="Free some space, then run the same command again.",
        code="cannot_write",
    )


def _stored_type(dtype: np.dtype) -> np.dtype:
    return np.dtype({"bool": "uint8", "float16": "float32"}.get(dtype.name, dtype.name))


def _suffix(name: str) -> str | None:
    lower = name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix) and lower != suffix), None)


def _known_suffix(path: Path) -> str:
    suffix = _suffix(path.name)
    if suffix is None:
        require_file(path)
        raise DataError(
            "has no suffix of an image file that autoseg reads",
            file=path,
            fix=f"Known are {', '.join(SUFFIXES)}.",
            code="unknown_format",
        )
    return suffix
