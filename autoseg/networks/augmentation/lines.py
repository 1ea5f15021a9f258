"""Values between voxels, one axis after the other: all that scaling and a low resolution need, since nothing turns."""

# n places along an axis, Z Y X voxel

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Line:
    """Where values are asked for along one axis.

    Attributes:
        low, high: Integers, (n,): the voxels before and after each place.
        share: float32, (n,): how far each place lies from the one to the other, 0 to 1.
    """

    low: Tensor
    high: Tensor
    share: Tensor


def find_line(places: np.ndarray, kept: np.ndarray, device: torch.device | str = "cpu") -> Line:
    """Return the line of `places` (n,), counted in the `kept` voxels of an axis; outside of them is the edge."""
    last = len(kept) - 1
    places = places.clip(0, last)
    low = places.astype(np.int32)  # rounds towards 0
    found = kept[low], kept[np.minimum(low + 1, last)], (places - low).astype(np.float32)
    low_voxel, high_voxel, share = (torch.from_numpy(item).to(device) for item in found)
    return Line(low_voxel, high_voxel, share)


def read_lines(values: Tensor, lines: Sequence[Line | None]) -> Tensor:
    """Return (..., n, n, n) of `values` (..., Z, Y, X), linear along each axis; None leaves an axis as it is."""
    shape = list(values.shape)
    for axis, line in zip((-3, -2, -1), lines):
        if line is not None:
            # What lies behind the axis is one run of memory, if there is more than the axis itself.
            runs = values.reshape(-1, shape[axis], *([math.prod(shape[axis + 1 :])] if axis < -1 else []))
            share = line.share[:, None] if axis < -1 else line.share
            shape[axis] = len(line.share)
            values = runs.index_select(1, line.low).lerp_(runs.index_select(1, line.high), share).view(shape)
    return values
