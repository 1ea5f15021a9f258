"""Where windows lie over an image, and how much each of their voxels counts."""

# C channel, Z Y X voxel

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

WEIGHT_FLOOR = 1e-4
SIGMA_FRACTION = 1 / 8


def window_starts(size: int, patch: int, step_fraction: float) -> tuple[int, ...]:
    """Return where windows start along an axis of `size` >= `patch` voxels: evenly spread from edge to edge."""
    step = max(1.0, patch * step_fraction)
    count = math.ceil((size - patch) / step) + 1
    if count == 1:
        return (0,)
    return tuple(round(index * (size - patch) / (count - 1)) for index in range(count))


def importance(patch_shape: Sequence[int]) -> Tensor:
    """Return the weight of each voxel of a patch, 1 at its centre: float32, `patch_shape`."""
    weight = torch.ones(())
    for size in patch_shape:
        offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (offset / (size * SIGMA_FRACTION)) ** 2)
    # The corners of a patch must still count where no other window reaches.
    return (weight / weight.max()).clamp(min=WEIGHT_FLOOR)


def pad(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the image with zeros on both sides of axes shorter than the patch, and how many come first.

    Args:
        image: (C, Z, Y, X).
        patch: Voxels along (z, y, x).

    Returns:
        (C, Z, Y, X), the image itself where it is long enough; zeros before its first voxel along (z, y, x).
    """
    lacking, before = missing(image.shape[1:], patch)
    if not any(lacking):
        return image, before
    sides = [side for first, count in zip(reversed(before), reversed(lacking)) for side in (first, count - first)]
    return functional.pad(image, sides), before


def window_of(tensor: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return the part of the last three axes that begins at `start`, as a view."""
    z, y, x = (slice(first, first + size) for first, size in zip(start, shape))
    return tensor[..., z, y, x]


def missing(shape: Sequence[int], patch: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    """Return by how many voxels each axis of an image is shorter than the patch, and how many of them come first."""
    lacking = [max(0, size - there) for size, there in zip(patch, shape)]
    return lacking, tuple(count // 2 for count in lacking)
