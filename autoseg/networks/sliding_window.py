"""Whole-image logits from overlapping patches, mirrored or not, of one network or the mean of several."""

# C channel, K output channels, Z Y X voxel, n patches computed at once

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.networks.sweep import Setting, Swap, flips_along, importance, sweep, sweep_axis, window_starts
from autoseg.records.geometry import Shape

__all__ = ["Swap", "as_tensor", "default_batch", "importance", "predict", "predict_each", "window_starts"]

# A CPU gains nothing from larger batches than this (measured: a U-Net at 40x56x40, one core, 1 to 8 patches at once:
# 53 to 75 ms a patch in bfloat16); a card has to be kept busy.
BATCH_VOXELS = {"cpu": 2**17}
BATCH_VOXELS_ON_CARD = 2**21


def predict(
    networks: Sequence[nn.Module],
    image: Tensor | np.ndarray,
    patch_shape: Shape,
    *,
    dimensions: int,
    mirror_axes: Sequence[int],
    step_fraction: float = 0.5,
    precision: str = "float32",
    device: torch.device | str = "cpu",
    window_batch: int | None = None,
    cancel: Callable[[], bool] | None = None,
    swap: Swap | None = None,
) -> Tensor:
    """Return the mean of the networks' logits over the whole image: float32, (K, Z, Y, X), on the CPU.

    Windows overlap by `1 - step_fraction`, spread evenly from edge to edge, and weigh less towards their borders
    (a Gaussian, sigma 1/8 of the patch). Each window is also seen flipped along every subset of `mirror_axes`. An
    image smaller than the patch is padded with zeros on both sides, and the result is cut back.

    Args:
        networks: On `device`; all see the same windows. Their training mode is restored afterwards.
        image: Normalised, (C, Z, Y, X).
        patch_shape: (z, y, x), z = 1 for 2D networks.
        dimensions: 2 or 3, of the networks.
        mirror_axes: 0 z, 1 y, 2 x; 2D networks are never flipped along z.
        step_fraction: Distance between windows over the patch, above 0, at most 1.
        precision: `float32`, `bfloat16` or `float16`, of the networks; sums are float32.
        device: Where to compute.
        window_batch: Patches (windows times flips) computed at once; None chooses.
        cancel: Asked before each batch; True stops.
        swap: Channels that a flip exchanges: structures left and right of one another.

    Raises:
        UserError: The networks gave non-finite values, or `cancel` said so.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (inference).
    """
    setting = Setting(
        networks=tuple(networks),
        patch=tuple(patch_shape),
        dimensions=dimensions,
        flips=flips_along(mirror_axes, dimensions),
        step_fraction=step_fraction,
        precision=precision,
        device=torch.device(device),
        window_batch=window_batch or default_batch(patch_shape, device),
        swap=swap,
        cancel=cancel,
    )
    return whole(setting, as_tensor(image))[0]


def predict_each(
    networks: Sequence[nn.Module],
    image: Tensor | np.ndarray,
    patch_shape: Shape,
    *,
    dimensions: int,
    mirror_axes: Sequence[int],
    step_fraction: float = 0.5,
    precision: str = "float32",
    device: torch.device | str = "cpu",
    window_batch: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[Tensor]:
    """Return what `predict` does, but for each network by itself, from one pass over the windows."""
    setting = Setting(
        networks=tuple(networks),
        patch=tuple(patch_shape),
        dimensions=dimensions,
        flips=flips_along(mirror_axes, dimensions),
        step_fraction=step_fraction,
        precision=precision,
        device=torch.device(device),
        window_batch=window_batch or default_batch(patch_shape, device),
        merge=False,
        cancel=cancel,
    )
    return list(whole(setting, as_tensor(image)))


def default_batch(patch_shape: Sequence[int], device: torch.device | str) -> int:
    """Return how many patches a device computes at once where memory sets no bound."""
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
    for first, block in rows.finished:
        if result is None:
            result = torch.empty((*block.shape[:2], *image.shape[1:]))
        result.narrow(axis - 3, first, block.shape[axis - 3]).copy_(block)
    assert result is not None
    return result
