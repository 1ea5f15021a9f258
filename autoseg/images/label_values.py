"""The values of label files: whole numbers that were declared, turned into inside values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autoseg.records.errors import DataError
from autoseg.records.labels import Labels

MANY_STRUCTURES = 250
WIDEST_TABLE = 1 << 24
LARGEST_LABEL = 65535


def inside_type(labels: Labels) -> type[np.uint8] | type[np.int16]:
    """Return the type of a label map: bytes, or int16 when there are more than 250 structures."""
    return np.int16 if len(labels.structures) > MANY_STRUCTURES else np.uint8


def whole_numbers(array: np.ndarray, *, file: Path) -> np.ndarray:
    """Return the same values in an integer type.

    Args:
        array: Any shape and type; integers come back as they are, bool as bytes.
        file: For the message.

    Raises:
        DataError: Some are NaN, infinite, fractions, or 2^31 and more.
    """
    if array.dtype.kind in "ui":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    _require_finite(array, file=file)
    whole = np.rint(array)
    fractional = array != whole
    if fractional.any():
        examples = ", ".join(f"{value:.4g}" for value in np.unique(array[fractional])[:3])
        raise DataError(
            f"labels hold fractions ({examples}) in {int(fractional.sum()):,} voxels where whole numbers are expected",
            file=file,
            fix="Is it a probability map, or was it resampled with interpolation? Threshold it, or export it again.",
            code="fractional_labels",
        )
    if np.abs(whole).max(initial=0) >= 2**31:
        raise DataError(
            f"labels reach {np.abs(whole).max():.3g}", file=file, fix="Is it an image?", code="label_too_large"
        )
    return whole.astype(np.int32)


def positive(array: np.ndarray, *, file: Path) -> np.ndarray:
    """Return where a binary mask is above 0: bool, the shape of `array`.

    Args:
        array: Any shape and type.
        file: For the message.

    Raises:
        DataError: It holds NaN or an infinite value.
    """
    if array.dtype.kind == "f":
        _require_finite(array, file=file)
    return np.asarray(array > 0)


def inside(array: np.ndarray, labels: Labels, *, file: Path) -> np.ndarray:
    """Return inside values for the values of a file.

    Args:
        array: Whole numbers, (Z, Y, X).
        labels: Says which values there may be.
        file: For messages.

    Returns:
        (Z, Y, X), of `inside_type(labels)`.

    Raises:
        DataError: A value was not declared; it is named with its number of voxels.
    """
    table = labels.remap()
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if high - low >= WIDEST_TABLE:
        _refuse(_counts_of_few(array, table), table, file=file)
    lookup = np.full(high - low + 1, -1, np.int32)
    for original, value in table.items():
        if low <= original <= high:
            lookup[original - low] = value
    result = np.empty(array.shape, inside_type(labels))
    for target, plane in zip(result, array, strict=True):  # a plane at a time: the indices are eight bytes a voxel
        values = lookup[plane.astype(np.int64) - low]
        if (values < 0).any():
            _refuse(_counts_of_few(array, table), table, file=file)
        target[...] = values
    return result


def _require_finite(array: np.ndarray, *, file: Path) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        count = int(array.size - finite.sum())
        raise DataError(
            f"labels are not finite (NaN) in {count:,} of {array.size:,} voxels",
            file=file,
            fix="Export the labels again, as whole numbers.",
            code="nan_in_labels",
        )


def _counts_of_few(array: np.ndarray, table: Mapping[int, int]) -> dict[int, int]:
    """Return undeclared value -> voxels."""
    values, counts = np.unique(array, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True) if int(v) not in table}


def _refuse(counts: Mapping[int, int], table: Mapping[int, int], *, file: Path) -> None:
    shown = ", ".join(f"{value} ({voxels:,} voxels)" for value, voxels in list(counts.items())[:5])
    more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
    declared = ", ".join(map(str, sorted(table)))
    code, fix = _advice(counts, table)
    raise DataError(
        f"labels hold the undeclared value {shown}{more}; declared are {declared}", file=file, fix=fix, code=code
    )


def _advice(counts: Mapping[int, int], table: Mapping[int, int]) -> tuple[str, str]:
    if set(counts) == {255} and 1 in table:
        return "mask_255", "If 255 stands for 1, declare the structure with the value 255: it is remapped to 1."
    if min(counts) < 0:
        return "negative_label", "Correct the file, or declare the value as the one to ignore: it is remapped then."
    if max(counts) > LARGEST_LABEL:
        return "label_too_large", "Is it an image, or a file of another tool? Correct it, or declare the value."
    return (
        "undeclared_label",
        "Declare it as a structure or as the value to ignore (it is remapped), or correct the file.",
    )
