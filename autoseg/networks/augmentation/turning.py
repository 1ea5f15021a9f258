"""What one sample shows after it was turned, scaled and mirrored, on a CPU; `spatial.py` has the same for a card."""

# C channel, Z Y X voxel of the window or of the patch; places are a tensor an axis, which broadcast to the patch

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks.augmentation.lines import find_line, read_lines

# What belongs to so many voxels stays in a processor's cache from one operation to the next.
SLAB_VOXELS = 2**17
EXACT_FLOATS = 2**24

Places = tuple[Tensor, Tensor, Tensor]


def resample(matrix: np.ndarray, image: tuple[Tensor, Tensor], maps: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write one sample as the patch shows it: the image linearly, label maps linearly per class.

    Args:
        matrix: 3x3, from an offset from the patch's centre to the offset from the window's that is shown there.
        image: float32, the window (C, Z, Y, X) and the patch (C, Z, Y, X) that is written. The window is longer by an
            even number of voxels along each axis; what lies outside of it looks like its edge.
        maps: Likewise integers from 0, (Z, Y, X) each.
    """
    source, result = image[0].contiguous(), image[1]
    window, patch = source.shape[1:], result.shape[1:]
    between = moving_axes(matrix, window)
    turns = bool((matrix - np.diag(np.diag(matrix))).any())
    marked = [(labels, mark_mixed(labels, between), shown) for labels, shown in maps]
    if turns and 0 not in between:
        _read_slices(source, find_places(matrix, window, patch, between=between), result)
    height = max(1, SLAB_VOXELS // (patch[1] * patch[2]))
    for first in range(0, patch[0], height):
        slab = slice(first, first + height)
        places = find_places(matrix, window, patch, slab, between=between)
        if not turns:
            _read_scaled(source, places, between, result[:, slab])
        elif 0 in between:
            _read_turned(source, places, result[:, slab])
        for labels, mixed, shown in marked:
            _read_labels(labels, mixed, places, between, shown[slab])


def moving_axes(matrix: np.ndarray, window: Sequence[int]) -> tuple[int, ...]:
    """Return the axes along which places lie between voxels; along the others whole slices are shown or flipped."""
    kept = [
        abs(row[axis]) == 1 and all(row[other] == 0 for other in range(3) if other != axis)
        for axis, row in enumerate(matrix.tolist())
    ]
    return tuple(axis for axis in range(3) if window[axis] > 1 and not kept[axis])


def find_places(
    matrix: np.ndarray,
    window: Sequence[int],
    patch: Sequence[int],
    slab: slice = slice(None),
    *,
    between: Sequence[int],
) -> Places:
    """Return the (z, y, x) place of each voxel of a patch's slab, in voxels from the window's first.

    A place on the last voxel of an axis that moves (is in `between`) counts as just before it, so that each has a next.
    """
    offsets = [np.arange(size) - (size - 1) / 2 for size in patch]
    offsets[0] = offsets[0][slab]
    z, y, x = (
        _place(row, offsets, size, moves=axis in between) for axis, (row, size) in enumerate(zip(matrix, window))
    )
    return z, y, x


def _place(row: np.ndarray, offsets: Sequence[np.ndarray], size: int, *, moves: bool) -> Tensor:
    """Return float32 of length 1 along the axes of the patch that make no difference."""
    place: Tensor | None = None
    for axis, (factor, offset) in enumerate(zip(row.tolist(), offsets)):
        if factor and offset.any():
            # In float64 as long as it is a row of numbers.
            part = factor * offset + ((size - 1) / 2 if place is None else 0)
            shape = [len(offset) if other == axis else 1 for other in range(3)]
            part = torch.from_numpy(part.astype(np.float32)).view(shape)
            place = part if place is None else place + part
    if place is None:
        place = torch.full((1, 1, 1), (size - 1) / 2)
    last = np.nextafter(np.float32(size - 1), np.float32(0)) if moves else size - 1
    return place.clamp_(0, float(last))


def _read_scaled(source: Tensor, places: Places, axes: Sequence[int], result: Tensor) -> None:
    """Write a slab (C, Z, Y, X) of the image (C, Z, Y, X) where nothing turns."""
    lines = [find_line(place.numpy().ravel(), np.arange(size)) for place, size in zip(places, source.shape[1:])]
    for axis in set(range(3)) - set(axes):
        source = source.index_select(axis + 1, lines[axis].low)
    result.copy_(read_lines(source, [line if axis in axes else None for axis, line in enumerate(lines)]))


def _read_slices(source: Tensor, places: Places, result: Tensor) -> None:
    """Write the image where slices turn in their plane: all of a channel's share their places."""
    z, y, x = places
    source = source.index_select(1, z.flatten().int())
    y, x = (place[0].expand(result.shape[2:]) for place in (y, x))
    result.copy_(_sample(source, x, y).view(result.shape))


def _read_turned(source: Tensor, places: Places, result: Tensor) -> None:
    """Write a slab (C, Z, Y, X) of the image (C, Z, Y, X), linear along all axes.

    torch interpolates one voxel after the other in 3D, but many at once in 2D. So the slices lie under one another as
    one tall image, and each place is read in it twice: in the slice before it and in the one after. In a window of
    100^3, float32 then places a voxel to a thousandth.
    """
    z, y, x = (place.expand(result.shape[1:]) for place in places)
    channels, _, height, width = source.shape
    below = z.floor()
    # Places change evenly, so the first and the last slice are looked at from a corner of the slab.
    outermost = below.numpy()[tuple(slice(None, None, max(1, size - 1)) for size in below.shape)]
    first, last = int(outermost.min()), int(outermost.max())
    # Both readings are channels of one image: the second begins a slice later in the same memory.
    pairs = source.as_strided(
        (channels, 2, (last - first + 1) * height, width),
        (source.stride(0), height * width, width, 1),
        source.storage_offset() + first * height * width,
    )
    before, after = _sample(pairs, x, torch.add(y, below - first, alpha=height)).view(channels, 2, *z.shape).unbind(1)
    torch.lerp(before, after, z - below, out=result)


def _sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return (B, C, 1, n) of `image` (B, C, Y, X), bilinear at places `x`, `y` of n voxels in all."""
    # In planes: torch reads that faster than pairs.
    grid = x.new_empty(2, *x.shape)
    for place, size, plane in zip((x, y), (image.shape[3], image.shape[2]), grid):
        # From the middle of the first voxel at -1 to the middle of the last at 1 (align_corners).
        torch.mul(place, 2 / max(size - 1, 1), out=plane).sub_(1)
    pairs = grid.flatten(1).T[None, None].expand(len(image), -1, -1, -1)
    return functional.grid_sample(image, pairs, mode="bilinear", padding_mode="border", align_corners=True)


def mark_mixed(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Return one value a voxel, flat: its label where the whole cell that begins at it has it, else the highest number.

    The cells that would begin at the last voxels of an axis are never looked up, and hold anything.
    """
    flat = low = high = labels.reshape(-1)
    for axis in axes:
        step = math.prod(labels.shape[axis + 1 :])
        low, high = torch.minimum(low[:-step], low[step:]), torch.maximum(high[:-step], high[step:])
    if low is high:
        return flat
    return torch.maximum(low, high.ne_(low).mul_(torch.iinfo(labels.dtype).max))


def _read_labels(labels: Tensor, mixed: Tensor, places: Places, axes: Sequence[int], result: Tensor) -> None:
    """Write a slab (Z, Y, X): the label with the largest linear weight at each place; the smallest of equals.

    That is the argmax over one-hot maps that were interpolated linearly. Most cells lie inside one structure: corners
    are weighed only where they differ, and the cost does not grow with the number of classes.

    Args:
        labels: The window, (Z, Y, X).
        mixed: `mark_mixed` of them.
        places: One a voxel of the slab.
        axes: Those along which places lie between voxels.
        result: Written.
    """
    strides = [math.prod(labels.shape[axis + 1 :]) for axis in range(3)]
    index = first_corners(places, strides, labels.numel()).expand(result.shape).reshape(-1)
    shown = result.view(-1)
    torch.index_select(mixed, 0, index, out=shown)
    # NumPy finds them in a quarter of torch's time.
    where = torch.from_numpy(np.flatnonzero(shown.numpy() == torch.iinfo(labels.dtype).max))
    if len(where):
        steps = [sum(pair) for pair in itertools.product(*((0, strides[axis]) for axis in axes))]
        cells = index.index_select(0, where) + torch.tensor(steps, dtype=index.dtype)[:, None]
        corners = labels.reshape(-1).index_select(0, cells.view(-1)).view(cells.shape)
        here = [places[axis].expand(result.shape).reshape(-1).index_select(0, where) for axis in axes]
        heaviest = weigh_corners(corners.numpy(), [place.frac().numpy() for place in here])
        shown.numpy()[where.numpy()] = heaviest


def weigh_corners(corners: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
    """Return (n,): the label of the largest linear weight among the corners (corners, n), the smallest of equals.

    `shares` are n numbers for each axis. In all but a few cells two labels meet: the lowest and the highest.
    """
    low, high = corners.min(0), corners.max(0)
    is_high = corners == high
    parts = is_high.astype(np.float32)
    for share in reversed(shares):
        parts = parts[::2] + (parts[1::2] - parts[::2]) * share
    result = np.where(parts[0] > 0.5, high, low)
    more = np.flatnonzero((is_high | (corners == low)).view(np.uint8).min(0) == 0)
    if len(more):
        result[more] = _heaviest_of_many(corners[:, more], [share[more] for share in shares])
    return result


def _heaviest_of_many(corners: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
    weights = np.ones((1, corners.shape[1]), np.float32)
    for share in shares:
        weights = np.stack((weights * (1 - share), weights * share), 1).reshape(-1, corners.shape[1])
    totals = ((corners[:, None] == corners) * weights).sum(1)
    return np.where(totals == totals.max(0), corners, np.iinfo(corners.dtype).max).min(0)


def first_corners(places: Places, strides: Sequence[int], count: int) -> Tensor:
    """Return int32 or int64: where the cell around each place begins in the flattened window of `count` voxels."""
    # Exact in float32 as long as every number up to `count` is, and faster than in integers.
    z, y, x = (place.floor() for place in places)
    if count >= EXACT_FLOATS:
        return z.long() * strides[0] + y.long() * strides[1] + x.long()
    return torch.add(torch.add(x, y, alpha=strides[1]), z, alpha=strides[0]).int()
