"""Values between voxels: the cell around each place is found once, and image and label maps are read through it."""

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


def trilinear(values: Tensor, places: Places) -> Tensor:
    """Return (b, M, P) of `values` (b, M, *window), interpolated linearly along each axis."""
    parts = [_corner(values, places, step) for step in places.corners]
    for share in reversed(places.share):
        weight = share[:, None]
        parts = [low.lerp_(high, weight) for low, high in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def majority(values: Tensor, places: Places) -> Tensor:
    """Return (b, M, P): the label with the largest linear weight at each place; the smallest of equals.

    That is the argmax over one-hot maps that were interpolated linearly. Only labels at the corners of the cell can
    win, so corners are compared with one another, and the cost does not grow with the number of classes.
    """
    if values.device.type != "cpu":
        corners = torch.stack([_corner(values, places, step) for step in places.corners])
        return _heaviest(corners, _weights(places.share)[:, :, None])
    result = _corner(values, places, 0)
    # Most cells lie inside one structure: on a CPU it pays to look at the others only.
    index = places.index[:, None].expand(-1, values.shape[1], -1)
    sample, number, place = _mixed_cells(values).flatten(2).gather(2, index).nonzero(as_tuple=True)
    first = places.index[sample, place] + (sample * values.shape[1] + number) * _product(values.shape[2:])
    flat = values.reshape(-1)
    corners = torch.stack([flat[first + step] for step in places.corners])
    weights = _weights([share[sample, place] for share in places.share])
    result[sample, number, place] = _heaviest(corners, weights)
    return result


def _corner(values: Tensor, places: Places, step: int) -> Tensor:
    """Return (b, M, P): the values `step` further than the first corner of each cell."""
    index = places.index[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2)[:, :, step:].gather(2, index)


def _mixed_cells(values: Tensor) -> Tensor:
    """Return bool (b, M, *window): whether the cell that begins at a voxel has corners of different values."""
    low = high = values
    for axis in range(2, values.dim()):
        size = values.shape[axis] - 1
        if size:
            low = torch.minimum(low.narrow(axis, 0, size), low.narrow(axis, 1, size))
            high = torch.maximum(high.narrow(axis, 0, size), high.narrow(axis, 1, size))
    mixed = torch.zeros(values.shape, dtype=torch.bool)
    mixed[tuple(slice(size) for size in low.shape)] = low != high
    return mixed


def _weights(share: Sequence[Tensor]) -> Tensor:
    """Return (corners, ...): the linear weight of each corner."""
    weights = [torch.ones_like(share[0])]
    for part in share:
        weights = [weight * factor for weight in weights for factor in (1 - part, part)]
    return torch.stack(weights)


def _heaviest(corners: Tensor, weights: Tensor) -> Tensor:
    """Return the label of the largest weight among the corners (corners, ...), the smallest of equals."""
    best, best_weight = corners[0], torch.zeros_like(corners[0], dtype=torch.float32)
    for mine in _candidates(corners):
        total = ((corners == mine) * weights).sum(0)
        better = (total > best_weight) | ((total == best_weight) & (mine < best))
        best, best_weight = torch.where(better, mine, best), torch.where(better, total, best_weight)
    return best


def _candidates(corners: Tensor) -> Sequence[Tensor]:
    """Return labels, or label maps, of which one wins at each place: all labels there are, if they are few."""
    if corners.device.type == "cpu" and corners.numel():
        present = torch.bincount(corners.flatten()).nonzero()[:, 0].to(corners.dtype)
        if len(present) < len(corners):
            return present.unbind()
    return corners.unbind()


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= int(size)
    return result
