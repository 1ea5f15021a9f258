"""Optional channels that a sample lacks: zero before the augmentation and zero after it."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoseg.networks.augmentation.draws import Draw

SPACE = (2, 3, 4)


def kept_channels(draws: Sequence[Draw], image: Tensor, optional: Sequence[int], channels: int) -> Tensor:
    """Return bool (B, C, 1, 1, 1): False where an optional channel is absent or is dropped by its draw.

    A channel is absent where it is zero throughout, as a missing file is read. Nothing is dropped from a sample that
    would have no channel left.

    Args:
        draws: One a sample; `dropped` says which of a case's channels go.
        image: Before the augmentation, (B, C, Z, Y, X); C is a multiple of `channels` where neighbouring slices are
            channels too.
        optional: Channels of a case that may be absent.
        channels: Of a case.
    """
    here = [number % channels for number in range(image.shape[1])]
    may_go = torch.tensor([number in optional for number in here], device=image.device)
    dropped = torch.tensor(
        [[bool(item.dropped) and item.dropped[number] for number in here] for item in draws], device=image.device
    )
    present = (image != 0).any(dim=4).any(dim=3).any(dim=2)
    left = present & ~(dropped & may_go)
    left = torch.where(left.any(1, keepdim=True), left, present)
    return (left | ~may_go)[:, :, None, None, None]
