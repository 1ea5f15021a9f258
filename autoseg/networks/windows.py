"""Cutting a grid of tokens into windows and back, shifting them, and which tokens of a window may see each other.

Everything here follows from shapes alone, so it runs on tensors without content.
"""

# B batch, C channel, N tokens of a window, W windows; a grid is (z, y, x) tokens, (y, x) in 2D

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Windows:
    """How one grid is cut, one number an axis.

    Attributes:
        grid: Tokens.
        size: Tokens of a window; no more than the grid has.
        shift: Tokens by which the cuts are moved; 0 where one window spans the axis.
    """

    grid: tuple[int, ...]
    size: tuple[int, ...]
    shift: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The grid's size rounded up to whole windows."""
        return tuple(-(-length // size) * size for length, size in zip(self.grid, self.size))


def cut(grid: Sequence[int], window: Sequence[int], *, shifted: bool) -> Windows:
    """Return the windows of a grid; shifted ones are moved by half a window along axes with more than one."""
    size = tuple(min(length, most) for length, most in zip(grid, window))
    shift = tuple(most // 2 if shifted and length > most else 0 for length, most in zip(grid, window))
    return Windows(tuple(grid), size, shift)


def partition(x: Tensor, windows: Windows) -> Tensor:
    """Return the windows (B x W, N, C) of tokens (B, *grid, C); the padding is zero."""
    axes = len(windows.grid)
    after = [padded - length for padded, length in zip(windows.padded, windows.grid)]
    if any(after):
        x = F.pad(x, (0, 0, *(number for extra in reversed(after) for number in (0, extra))))
    if any(windows.shift):
        x = x.roll([-step for step in windows.shift], list(range(1, axes + 1)))
    split = [number for length, size in zip(windows.padded, windows.size) for number in (length // size, size)]
    outer, inner = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
    x = x.reshape(x.shape[0], *split, x.shape[-1]).permute(0, *outer, *inner, 2 * axes + 1)
    return x.reshape(-1, math.prod(windows.size), x.shape[-1])


def merge(x: Tensor, windows: Windows) -> Tensor:
    """Return tokens (B, *grid, C) of their windows (B x W, N, C): what `partition` did, undone."""
    axes = len(windows.grid)
    counts = [length // size for length, size in zip(windows.padded, windows.size)]
    x = x.reshape(-1, *counts, *windows.size, x.shape[-1])
    order = [number for axis in range(axes) for number in (1 + axis, 1 + axes + axis)]
    x = x.permute(0, *order, 2 * axes + 1).reshape(x.shape[0], *windows.padded, x.shape[-1])
    if any(windows.shift):
        x = x.roll(list(windows.shift), list(range(1, axes + 1)))
    for axis, length in enumerate(windows.grid, start=1):
        x = x.narrow(axis, 0, length)
    return x


def hidden_pairs(windows: Windows, *, device: torch.device | None = None) -> Tensor | None:
    """Return which pairs of tokens may not see each other.

    Shifting rolls one end of an axis beside the other end, and padding is nothing to look at.

    Returns:
        Bool, (W, N, N), True where hidden; None where every pair may see each other.
    """
    if not any(windows.shift) and windows.padded == windows.grid:
        return None
    regions = torch.zeros(windows.padded, dtype=torch.long, device=device)
    for axis, (length, padded, shift) in enumerate(zip(windows.grid, windows.padded, windows.shift)):
        place = torch.arange(padded, device=device)
        wrapped = (place >= padded - shift).long()
        outside = ((place + shift) % padded >= length).long()
        along = [1] * len(windows.grid)
        along[axis] = padded
        regions = 4 * regions + (wrapped + 2 * outside).reshape(along)
    unshifted = Windows(windows.padded, windows.size, (0,) * len(windows.grid))
    region = partition(regions[None, ..., None], unshifted).squeeze(-1)
    return region[:, :, None] != region[:, None, :]


def relative_places(size: Sequence[int], window: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """Return for each pair of tokens the row of a bias table that holds their distance.

    Args:
        size: Tokens of the windows in use, an axis.
        window: Tokens of the largest window; the table has the product of (2 x window - 1) rows.
        device: Where the answer lies.

    Returns:
        Whole numbers, (N, N).
    """
    mesh = torch.meshgrid(*(torch.arange(length, device=device) for length in size), indexing="ij")
    rows = torch.zeros((), dtype=torch.long, device=device)
    for places, most in zip(mesh, window):
        flat = places.reshape(-1)
        rows = rows * (2 * most - 1) + (flat[:, None] - flat[None, :] + most - 1)
    return rows
