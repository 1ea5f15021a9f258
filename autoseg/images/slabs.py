"""Slabs of a scan from the rows of its fields: the largest class of one field, or the mean of several.

# K class, z Y X voxel of a slab
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoseg.images.fields import Field, Output, Rows
from autoseg.images.resizing import Taps, window
from autoseg.images.tiles import reading_axis, slabs_of, tiles_of
from autoseg.images.ways import Part, Way, ways_of
from autoseg.records.geometry import Box

if TYPE_CHECKING:
    from torch import Tensor

# Called with a place on the scan's grid and float32 probabilities (K, z, y, x) there.
Keep = Callable[[Part, np.ndarray], None]

# Slabs that fit the cache: 62 classes to 11 million voxels take half as long again in slabs of 64 MB.
SLAB_BYTES = 16 * 2**20
# The logits that a slab is made of may take so many times as much.
LOGIT_SLABS = 4


def write_largest(
    field: Field, view: np.ndarray, *, slab_bytes: int, memory_bytes: float, keep: Keep | None = None
) -> None:
    """Write the class of the largest logit into `view`: slab by slab, class by class, with a running maximum.

    Probabilities in float32 may be equal where logits are not: so the labels are the same whether those are kept.

    Args:
        field: The only one of its scan.
        view: (Z, Y, X) along the axes of the field's oriented grid, an integer type.
        slab_bytes: Bound of the working memory.
        memory_bytes: Bound of what the source holds while it is read.
        keep: Called with each slab's place in `view` and its probabilities.

    Raises:
        DataError: The field is not finite.
    """
    from autoseg.images import rising

    (way,) = ways_of([field])
    axis = reading_axis([way])
    for tile in tiles_of([way], axis, memory_bytes):
        reader = _Reader(way, axis, tile)
        numbers = 4 if keep is None else 2 * way.source.shape[0] + 3
        for slab in slabs_of(tile, axis, max(numbers, _logits_a_voxel(way, tile) // LOGIT_SLABS), slab_bytes):
            block, along = reader.blocks(way.part(slab) or ())
            view[slab.slices()] = rising.largest(block, along, view.dtype)
            if keep is not None:
                keep(slab.slices(), rising.probabilities(block, along, "softmax"))


def mean_slabs(
    fields: Sequence[Field], *, output: Output, slab_bytes: int = SLAB_BYTES, memory_bytes: float = math.inf
) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield slabs of the box around every crop with the weighted mean of the fields' probabilities, (K, z, Y, X).

    Args:
        fields: Of one scan; boxes lie in the first one's oriented grid.
        output: What the logits are.
        slab_bytes: Bound of the working memory.
        memory_bytes: Bound of what sources hold while they are read; tiles shrink to fit it.

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    ways = ways_of(fields)
    axis = reading_axis(ways)
    classes = ways[0].source.shape[0]
    # Classes that are mixed differently do not add up to 1 by themselves.
    uneven = output == "softmax" and any(np.ptp(way.weight) > 0 for way in ways)
    for tile in tiles_of(ways, axis, memory_bytes):
        readers = [_Reader(way, axis, tile) for way in ways]
        for slab in slabs_of(tile, axis, 2 * classes + 3, slab_bytes):
            mean = np.zeros((classes, *slab.shape), np.float32)
            for reader in readers:
                _add(mean, reader, slab, output)
            if uneven:
                mean /= np.maximum(mean.sum(axis=0), np.finfo(np.float32).tiny)
            yield slab, mean


@dataclass
class _Reader:
    """One way while a tile of it is read, slab by slab."""

    way: Way
    axis: int
    tile: Box
    rows: Rows | None = None

    def blocks(self, part: Part) -> tuple[Tensor, list[Taps]]:
        """Return logits (K, ...) in the first field's order, and the taps that lead from them to `part`."""
        read = [window(along, piece) for along, piece in zip(self.way.along, part, strict=True)]
        if self.rows is None:
            own = self.way.opened(self.tile, self.axis)
            self.rows = self.way.source.open(self.way.order[self.axis], own)
        along = read[self.axis][0]
        block = self.rows.read(along.start, along.stop)
        return block.permute(0, *(1 + axis for axis in self.way.order)), [item for _, item in read]


def _add(mean: np.ndarray, reader: _Reader, slab: Box, output: Output) -> None:
    """Add one field's weighted probabilities to `mean`, which lies on `slab`; outside its crop all is background."""
    from autoseg.images import rising

    way = reader.way
    if output == "softmax":
        mean[0] += way.weight[0]
    part = way.part(slab)
    if part is None:
        return
    there = tuple(
        slice(piece.start + first - s, piece.stop + first - s)
        for piece, first, s in zip(part, way.box.start, slab.start, strict=True)
    )
    block, along = reader.blocks(part)
    found = rising.probabilities(block, along, output)
    found *= way.weight.reshape(-1, 1, 1, 1)
    if output == "softmax":
        mean[0][there] -= way.weight[0]
    mean[(slice(None), *there)] += found


def _logits_a_voxel(way: Way, tile: Box) -> int:
    """Return how many logits are read of the network's grid for a voxel of the tile: few where that is coarse."""
    read = way.read_box(way.part(tile) or ())
    return way.source.shape[0] * math.prod(read.shape) // max(1, math.prod(tile.shape))
