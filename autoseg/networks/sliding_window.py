"""Whole-image logits from a sweep of windows, and how many windows a device computes at once."""

# C channel, K output channels, Z Y X voxel, F fields

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autoseg.networks.passes import Setting
from autoseg.networks.sweep import ROWS_AT_ONCE, sweep, sweep_axis

# A CPU gains nothing from larger batches than this (measured: a U-Net at 40x56x40, one core, 1 to 8 patches at once:
# 53 to 75 ms a patch in bfloat16); a card has to be kept busy.
BATCH_VOXELS = {"cpu": 2**17}
BATCH_VOXELS_ON_CARD = 2**21


def useful_batch(patch_shape: Sequence[int], device: torch.device | str) -> int:
    """Return how many patches at once make a device as fast as it gets; memory may hold fewer."""
    voxels = BATCH_VOXELS.get(torch.device(device).type, BATCH_VOXELS_ON_CARD)
    return max(1, voxels // math.prod(patch_shape))


def as_tensor(image: Tensor | np.ndarray) -> Tensor:
    """Return the image as a tensor; an array that must not be written to is copied, which torch would warn of."""
    if isinstance(image, Tensor):
        return image
    array = np.ascontiguousarray(image)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def whole(setting: Setting, image: Tensor) -> Tensor:
    """Return the logits of every field over the whole image: float32, (F, K, Z, Y, X), on the CPU."""
    axis = sweep_axis(image.shape[1:], setting.patch)
    rows = sweep(setting, image, axis)
    result: Tensor | None = None
    size = image.shape[1 + axis]
    for first in range(0, size, ROWS_AT_ONCE):
        block = rows.read(first, min(first + ROWS_AT_ONCE, size))
        if result is None:
            result = torch.empty((*block.shape[:2], *image.shape[1:]))
        result.narrow(axis - 3, first, block.shape[axis - 3]).copy_(block)
    assert result is not None
    return result
