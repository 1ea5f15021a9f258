"""Labels between voxels: the cell around each place is found once, and the labels at its corners are weighed."""

# b samples, M maps that share a grid, P places, n axes (2 or 3)

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Where in a window values are asked for.

    Attributes:
        index: int64, (b, P): the first corner of the cell around each place, in the flattened window.
        share: float32, n of (b, P): how far along each axis a place lies in its cell, 0 to 1.
        corners: What leads from a cell's first corner to each of the others in the flattened window, the last axis
            fastest; 0 along an axis of one voxel.
    """

    index: Tensor
    share: tuple[Tensor, ...]
    corners: tuple[int, ...]


def find_places(window: Sequence[int], offsets: Tensor) -> Places:
    """Return the places that lie `offsets` (b, n, P) from the window's centre, in voxels; outside means its edge."""
    index = torch.zeros(offsets[:, 0].shape, dtype=torch.int32, device=offsets.device)
    share = []
    for axis, size in enumerate(window):
        place = (offsets[:, axis] + (size - 1) / 2).clamp_(0, size - 1)
        # The last voxel is the end of the cell before it, so that every cell has its corners at the same distances.
        floor = place.floor().clamp_(max=max(0, size - 2))
        index = index.mul_(size).add_(floor.int())
        share.append(place.sub_(floor))
    strides = [0 if size == 1 else _product(window[axis + 1 :]) for axis, size in enumerate(window)]
    corners = [sum(pair) for pair in itertools.product(*((0, stride) for stride in strides))]
    return Places(index.long(), tuple(share), tuple(corners))


def majority(values: Tensor, places: Places) -> Tensor:
    """Return (b, M, P): the label with the largest linear weight at each place; the smallest of equals.

    That is the argmax over one-hot maps that were interpolated linearly. Only labels at the corners of the cell can
    win, so corners are compared with one another, and the cost does not grow with the number of classes.
    """
    corners = torch.stack([_corner(values, places, step) for step in places.corners])
    return _heaviest(corners, _weights(places.share)[:, :, None])


def _corner(values: Tensor, places: Places, step: int) -> Tensor:
    """Return (b, M, P): the values `step` further than the first corner of each cell."""
    index = places.index[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2)[:, :, step:].gather(2, index)


def _weights(share: Sequence[Tensor]) -> Tensor:
    """Return (corners, ...): the linear weight of each corner."""
    weights = [torch.ones_like(share[0])]
    for part in share:
        weights = [weight * factor for weight in weights for factor in (1 - part, part)]
    return torch.stack(weights)


def _heaviest(corners: Tensor, weights: Tensor) -> Tensor:
    """Return the label of the largest weight among the corners (corners, ...), the smallest of equals."""
    best, best_weight = corners[0], torch.zeros_like(corners[0], dtype=torch.float32)
    for mine in corners.unbind():
        total = ((corners == mine) * weights).sum(0)
        better = (total > best_weight) | ((total == best_weight) & (mine < best))
        best, best_weight = torch.where(better, mine, best), torch.where(better, total, best_weight)
    return best


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= int(size)
    return result
