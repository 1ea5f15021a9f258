"""How a scan is cut on the way home: tiles that bound what sources hold, and slabs of them that fit the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from autoseg.images.fields import Field
from autoseg.images.ways import Way, spanning, ways_of
from autoseg.records.geometry import Box

# A tile narrower than this computes every window many times over.
SMALLEST_TILE = 16


def tile_count(fields: Sequence[Field], memory_bytes: float) -> int:
    """Return into how many tiles `home` cuts the scan so that what its sources hold fits the memory."""
    ways = ways_of(fields)
    return len(tiles_of(ways, reading_axis(ways), memory_bytes))


def bytes_held(fields: Sequence[Field], memory_bytes: float = math.inf) -> float:
    """Return what the fields' sources hold at once when tiles are cut to fit the memory, without computing anything."""
    ways = ways_of(fields)
    axis = reading_axis(ways)
    tile = max(tiles_of(ways, axis, memory_bytes), key=lambda box: math.prod(box.shape))
    return _tile_bytes(ways, tile, axis)


def readings(fields: Sequence[Field], memory_bytes: float = math.inf) -> Iterator[tuple[int, int, Box]]:
    """Yield (number of the field, axis, part) for all that is opened of sources on the way home, in their own axes."""
    ways = ways_of(fields)
    axis = reading_axis(ways)
    for tile in tiles_of(ways, axis, memory_bytes):
        for number, way in enumerate(ways):
            if way.part(tile) is not None:
                yield number, way.order[axis], way.opened(tile, axis)


def reading_axis(ways: Sequence[Way]) -> int:
    """Return the axis along which the slabs that sources hold are the smallest share of their grids.

    It follows from shapes alone, never from memory: the order in which windows are added up must not change with it.
    """

    def share(axis: int) -> float:
        return sum(min(1.0, way.source.depth[way.order[axis]] / max(1, way.shape()[axis])) for way in ways)

    return min(range(3), key=share)


def tiles_of(ways: Sequence[Way], axis: int, memory_bytes: float) -> list[Box]:
    """Return boxes, whole along `axis`, that are small enough for what sources hold to fit the memory.

    Together they are the box around every crop.
    """
    around = _around(ways)
    cuts = [1, 1, 1]
    while True:
        tiles = _cut(around, cuts)
        if max(_tile_bytes(ways, tile, axis) for tile in tiles) <= memory_bytes:
            return tiles
        # Windows that straddle a border are computed on both sides: the longer axis loses least.
        longest = max(
            (other for other in range(3) if other != axis), key=lambda other: around.shape[other] / cuts[other]
        )
        if around.shape[longest] / cuts[longest] < 2 * SMALLEST_TILE:
            return tiles
        cuts[longest] += 1


def slabs_of(tile: Box, axis: int, arrays: int, slab_bytes: int) -> Iterator[Box]:
    """Yield slabs of a tile along the axis so that `arrays` float32 arrays of a slab fit the bytes."""
    size = tile.shape[axis]
    rows = max(1, slab_bytes // max(1, 4 * arrays * (math.prod(tile.shape) // max(1, size))))
    first = tile.start[axis]
    for start in range(0, size, rows):
        yield spanning(tile, axis, first + start, first + min(start + rows, size))


def _around(ways: Sequence[Way]) -> Box:
    """Return the box around every crop."""
    start = tuple(min(way.box.start[axis] for way in ways) for axis in range(3))
    stop = tuple(max(way.box.stop[axis] for way in ways) for axis in range(3))
    return Box(start=start, stop=stop)


def _cut(box: Box, cuts: Sequence[int]) -> list[Box]:
    edges = [
        [low + round(size * place / count) for place in range(count + 1)]
        for low, size, count in zip(box.start, box.shape, cuts, strict=True)
    ]
    z, y, x = ([(a, b) for a, b in pairwise(along)] for along in edges)
    return [Box(start=(zs[0], ys[0], xs[0]), stop=(zs[1], ys[1], xs[1])) for zs in z for ys in y for xs in x]


def _tile_bytes(ways: Sequence[Way], tile: Box, axis: int) -> float:
    return sum(way.bytes_held(tile, axis) for way in ways)
