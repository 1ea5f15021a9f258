"""A loss in which every connected piece counts the same: a lesion of ten voxels as much as one of ten thousand.

Pieces are found on the device, in a fixed number of passes, without reading anything back to the host.
"""

# B batch, Z Y X voxel, N voxels of a patch

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5


def blob_loss(inside: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Return 1 - soft Dice of each piece of the truth, averaged over the pieces of the batch; 0 where there is none.

    A piece is looked at as if the others were cut away: what is predicted inside another piece is no error of this
    one, what is predicted outside of all of them is an error of each.

    Args:
        inside: Probability of the foreground, float32, (B, Z, Y, X) or (B, Y, X).
        truth: The foreground, bool, of the same shape.
        counted: 1 where a voxel counts, else 0.

    Source:
        Kofler et al. 2023, blob loss, doi:10.1007/978-3-031-34048-2_58.
    """
    piece = pieces(truth & (counted > 0))
    inside = inside.flatten(1) * counted.flatten(1)
    outside = (inside * (piece == 0)).sum(1, keepdim=True)
    # Index 0 gathers what belongs to no piece.
    hit, size = (
        inside.new_zeros(len(piece), piece.shape[1] + 1).scatter_add(1, piece, values)[:, 1:]
        for values in (inside, torch.ones_like(inside))
    )
    there = (size > 0).float()
    dice = (2 * hit + SMOOTH) / (hit + outside + size + SMOOTH)
    return ((1 - dice) * there).sum() / there.sum().clamp(min=1)


@torch.no_grad()
def pieces(mask: Tensor) -> Tensor:
    """Return the number of each voxel's connected piece, int64 (B, N): 0 outside, 1 to N inside, with gaps.

    Voxels that touch by a face, an edge or a corner are one piece. Each pass joins whole groups of voxels with their
    largest neighbour, so that numbers travel ever farther. A piece that winds more than the passes reach counts as
    several.

    Args:
        mask: Bool, (B, Z, Y, X) or (B, Y, X); at most 2 ** 24 voxels a sample, which float32 can count.
    """
    pool = functional.max_pool3d if mask.dim() == 4 else functional.max_pool2d
    flat = mask.flatten(1)
    own = torch.arange(1, flat.shape[1] + 1, device=mask.device)
    number = own * flat
    for _ in range(_passes(mask)):
        around = pool(number.view(mask.shape).float()[:, None], 3, stride=1, padding=1)[:, 0].flatten(1).long() * flat
        lender = (number - 1).clamp(min=0)
        # The voxel that lent its number learns the largest that any borrower has met, and hands it on to all of them.
        number = number.scatter_reduce(1, lender, around, "amax")
        number = torch.where(flat, number.gather(1, (number - 1).clamp(min=0)), 0)
    return number


def _passes(mask: Tensor) -> int:
    return 4 * math.ceil(math.log2(max(mask.shape[1:]) + 1))
