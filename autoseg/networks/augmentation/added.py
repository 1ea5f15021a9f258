"""Transforms of installed packages, after all others: one sample at a time, by the seed that its draw holds."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoseg.networks.additions import transform
from autoseg.networks.augmentation.draws import Draw
from autoseg.records.errors import UsageError


def apply_added(draws: Sequence[Draw], image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return image (B, C, Z, Y, X) and labels (B, Z, Y, X) after what each draw adds; both may be written into.

    Raises:
        UsageError: A transform is not installed, or gives tensors of other shapes or types back.
    """
    for index, item in enumerate(draws):
        for name, seed in item.added:
            changed = transform(name)(
                image[index].clone(), labels[index].clone(), generator=torch.Generator().manual_seed(seed)
            )
            for tensor, result in zip((image, labels), changed, strict=True):
                _check(name, tensor[index], result)
                tensor[index] = result
    return image, labels


def _check(name: str, before: Tensor, after: Tensor) -> None:
    if (after.shape, after.dtype) != (before.shape, before.dtype):
        raise UsageError(
            f"the transform {name!r} makes {tuple(after.shape)} {after.dtype} of {tuple(before.shape)} {before.dtype}",
            fix="It must keep shape and type; ask whoever wrote its package.",
            code="bad_transform",
        )
