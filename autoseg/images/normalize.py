"""Intensities as scanners give them become intensities as networks like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.records.configuration import Normalization
from autoseg.records.errors import DataError

# A constant channel becomes zeros instead of a division by zero.
SMALLEST = 1e-8


def normalize(
    image: np.ndarray, normalizations: Sequence[Normalization], valid: np.ndarray | None = None
) -> np.ndarray:
    """Return the image as network input.

    Padding outside a channel's own field of view takes no part in any statistic, and becomes 0.

    Args:
        image: (C, Z, Y, X), cropped, not yet resampled.
        normalizations: One a channel, in the order of the channels.
        valid: Bool, (C, Z, Y, X): False where a channel was padded; None when every voxel was measured.

    Returns:
        float32, (C, Z, Y, X), a new array.

    Raises:
        DataError: The image has another number of channels.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z: CT by the statistics of the data set, others by case.
    """
    if len(normalizations) != image.shape[0]:
        names = ", ".join(item.channel for item in normalizations)
        raise DataError(
            f"has {image.shape[0]} channels, but the plan was made for {len(normalizations)}: {names}",
            fix="Give every channel that the plan names, in that order.",
            code="channel_count",
        )
    result = np.array(image, dtype=np.float32, order="C")
    for index, (channel, rule) in enumerate(zip(result, normalizations, strict=True)):
        _normalize_channel(channel, rule, None if valid is None else valid[index])
    return result


def _normalize_channel(channel: np.ndarray, rule: Normalization, valid: np.ndarray | None) -> None:
    """Normalise one channel (Z, Y, X) in place."""
    counted = channel != 0 if rule.kind == "zscore" and rule.masked else None
    if valid is not None:
        counted = valid if counted is None else counted & valid
    if rule.kind == "ct":
        np.clip(channel, rule.lower, rule.upper, out=channel)
        _shift_and_scale(channel, rule.mean, rule.std)
    elif rule.kind == "rgb":
        channel /= 255
    elif rule.kind in ("zscore", "minmax"):
        voxels = channel if counted is None else channel[counted]
        if voxels.size:
            _shift_and_scale(channel, *_by_case(voxels, rule.kind))
    if counted is not None:
        channel[~counted] = 0


def _by_case(voxels: np.ndarray, kind: str) -> tuple[float, float]:
    """Return what to subtract and what to divide by."""
    if kind == "zscore":
        return float(voxels.mean(dtype=np.float64)), float(voxels.std(dtype=np.float64))
    low = float(voxels.min())
    return low, float(voxels.max()) - low


def _shift_and_scale(channel: np.ndarray, shift: float, scale: float) -> None:
    channel -= np.float32(shift)
    if scale < SMALLEST:
        # What is left of a constant is rounding, which a division by 1e-8 would blow up.
        channel[...] = 0
        return
    channel /= np.float32(scale)
