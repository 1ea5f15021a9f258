"""The way home: network outputs on the network's grid become labels on the grid of the scan.

# K class, Z Y X voxel

Outputs are read in rows along one axis, as arrays or from a network that computes them as they are read, and go up
to the scan's resolution in slabs of bounded bytes, where need be in tiles across that axis. Results are written
through a view into an array that has the scan's own axes already: there is never a K x full resolution copy. Every
number is computed voxel by voxel in a fixed order, so the result does not depend on how slabs and tiles are cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from autoseg.images.orientation import permute, reorient, steps_between
from autoseg.images.resizing import Taps, anisotropic_axis, taps, window
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box
from autoseg.records.volumes import Passage

if TYPE_CHECKING:
    from torch import Tensor

Output = Literal["softmax", "sigmoid"]
Part = tuple[slice, ...]
Keep = Callable[[tuple[slice, slice, slice], np.ndarray], None]

# Slabs that fit the cache: 62 classes to 11 million voxels take half as long again in slabs of 64 MB.
SLAB_BYTES = 16 * 2**20
# The logits that a slab is made of may take so many times as much.
LOGIT_SLABS = 4
# A tile narrower than this computes every window many times over.
SMALLEST_TILE = 16


class Rows(Protocol):
    """Logits of a part of the network's grid, read forwards along one axis."""

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop`, float32, (K, ...); `start` never lies before that of an earlier reading."""


class Source(Protocol):
    """Logits that are computed when they are read, so that they are never all there at once."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(K, Z, Y, X)."""

    @property
    def depth(self) -> tuple[int, int, int]:
        """Rows along each axis that are held at once."""

    def open(self, axis: int, part: Box) -> Rows:
        """Begin to read a part that is whole along `axis`."""

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        """Return what is held while such a part is read."""


@dataclass(frozen=True)
class Field:
    """What one model, or the mean of several on one grid, says of every voxel.

    Attributes:
        array: Logits, float32, (K, Z, Y, X) on `passage.network`, or a `Source` of them.
        passage: The way of the scan to that grid.
        weight: Of this field among others, one number or one a class; only ratios matter.
        inside: The part of `passage.network` that `array` covers; outside all is background. None: everything.
    """

    array: Any
    passage: Passage
    weight: float | tuple[float, ...] = 1.0
    inside: Box | None = None


@dataclass(frozen=True)
class _Way:
    """One field seen along the axes of the first field's oriented grid.

    Attributes:
        source: The logits, along the field's own axes.
        order: `permute` by it brings the field's own axes into the first field's order.
        box: Where the field lies in the first field's oriented grid.
        along: Taps along each axis of the box.
        weight: Of the field's probabilities, float32 (K,).
    """

    source: Source
    order: tuple[int, ...]
    box: Box
    along: tuple[Taps, Taps, Taps]
    weight: np.ndarray

    def shape(self) -> tuple[int, ...]:
        """Return the source's (Z, Y, X) in the first field's order."""
        return tuple(self.source.shape[1 + axis] for axis in self.order)


@dataclass(frozen=True)
class _Stored:
    """Logits that are there already, as a source."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        classes, z, y, x = self.array.shape
        return classes, z, y, x

    @property
    def depth(self) -> tuple[int, int, int]:
        return (0, 0, 0)

    def open(self, axis: int, part: Box) -> Rows:
        return _StoredRows(self.array[(slice(None), *part.slices())], axis)

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        return 0.0


@dataclass(frozen=True)
class _StoredRows:
    array: np.ndarray
    axis: int

    def read(self, start: int, stop: int) -> Tensor:
        import torch  # here, so that a process that only prepares scans does not load it

        place = [slice(None)] * 4
        place[1 + self.axis] = slice(start, stop)
        rows = self.array[tuple(place)]
        _require_finite(rows)
        return torch.from_numpy(np.ascontiguousarray(rows) if rows.flags.writeable else rows.copy())


def home(
    fields: Sequence[Field],
    *,
    output: Output,
    region_values: Sequence[int] = (),
    slab_bytes: int = SLAB_BYTES,
    memory_bytes: float = math.inf,
    keep: Keep | None = None,
) -> np.ndarray:
    """Return labels on the original grid from the logits of one or several fields.

    One softmax field: logits are interpolated linearly (a coarse axis nearest) and the largest wins, class by class.
    Several, or sigmoids: each is interpolated, turned into probabilities, and averaged by weight; then the largest
    wins, or regions above one half are painted in order. Ties go to the lower class.

    Args:
        fields: All of one scan; their network grids, crops and axis orders may differ.
        output: What the logits are.
        region_values: What each region paints, in order; sigmoid only.
        slab_bytes: Bound of the working memory beside the result.
        memory_bytes: Bound of what sources hold while they are read; tiles shrink to fit it.
        keep: Called with (a place on the original grid, float32 probabilities (K, z, y, x) there) for every voxel
            inside a crop once.

    Returns:
        (Z, Y, X), uint8, or int16 where values exceed 250; 0 outside every crop.

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    passage = fields[0].passage
    highest = max(region_values, default=0) if output == "sigmoid" else fields[0].array.shape[0] - 1
    labels = np.zeros(passage.original.shape, np.uint8 if highest <= 250 else np.int16)
    ways = _ways(fields)
    view = reorient(labels, passage.original, passage.oriented)
    if output == "softmax" and len(ways) == 1 and keep is None:
        _largest_logit(ways[0], view, slab_bytes, memory_bytes)
        return labels
    for box, mean in _mean_slabs(ways, output, slab_bytes, memory_bytes):
        if keep is not None:
            keep(box.slices(), mean)
        if output == "softmax":
            view[box.slices()] = _argmax(mean)
            continue
        for probability, value in zip(mean, region_values, strict=True):
            np.copyto(view[box.slices()], value, where=probability > 0.5)
    return labels


def home_regions(
    fields: Sequence[Field],
    *,
    slab_bytes: int = SLAB_BYTES,
    memory_bytes: float = math.inf,
    keep: Keep | None = None,
) -> np.ndarray:
    """Return which regions hold each voxel of the original grid, from sigmoid logits: bit k for region k.

    Args:
        fields: As in `home`.
        slab_bytes: Bound of the working memory beside the result.
        memory_bytes: As in `home`.
        keep: As in `home`.

    Returns:
        (Z, Y, X), the smallest unsigned type with a bit a region (at most 64 of them).

    Raises:
        DataError: A field is not finite, there are more than 64 regions, or the fields are not of one scan.
    """
    count = fields[0].array.shape[0]
    if count > 64:
        fix = "Split the data set, or use structures that do not overlap."
        raise DataError(f"has {count} regions, and at most 64 are predicted", fix=fix, code="too_many_regions")
    kind = np.min_scalar_type((1 << count) - 1)
    passage = fields[0].passage
    result = np.zeros(passage.original.shape, kind)
    view = reorient(result, passage.original, passage.oriented)
    for box, mean in _mean_slabs(_ways(fields), "sigmoid", slab_bytes, memory_bytes):
        if keep is not None:
            keep(box.slices(), mean)
        bits = np.zeros(box.shape, kind)
        for place, probability in enumerate(mean):
            bits |= (probability > 0.5).astype(kind) << kind.type(place)
        view[box.slices()] = bits
    return result


def paint_regions(regions: np.ndarray, region_values: Sequence[int]) -> np.ndarray:
    """Return the label map that regions give when they are painted in order, the later over the earlier.

    Args:
        regions: Bits, as `home_regions` gives them.
        region_values: What each region paints.
    """
    labels = np.zeros(regions.shape, np.uint8 if max(region_values) <= 250 else np.int16)
    for place, value in enumerate(region_values):
        np.copyto(labels, value, where=(regions >> regions.dtype.type(place) & 1).astype(np.bool_))
    return labels


def home_probabilities(fields: Sequence[Field], *, output: Output, slab_bytes: int = SLAB_BYTES) -> np.ndarray:
    """Return float32 probabilities (K, Z, Y, X) on the original grid; outside every crop all is background.

    Args:
        fields: As in `home`.
        output: What the logits are.
        slab_bytes: Bound of the working memory beside the result.

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    result, keep = probabilities_to_keep(fields, output=output)
    for box, mean in _mean_slabs(_ways(fields), output, slab_bytes):
        keep(box.slices(), mean)
    return result


def probabilities_to_keep(
    fields: Sequence[Field], *, output: Output, result: np.ndarray | None = None
) -> tuple[np.ndarray, Keep]:
    """Return probabilities (K, Z, Y, X) on the original grid before anything was predicted, and what fills them in.

    Args:
        fields: As in `home`.
        output: What the logits are.
        result: Zeros to write into, of any floating type, in memory or on disk; None makes float32 ones.
    """
    passage = fields[0].passage
    if result is None:
        result = np.zeros((fields[0].array.shape[0], *passage.original.shape), np.float32)
    if output == "softmax":
        result[0] = 1.0
    view = reorient(result, passage.original, passage.oriented)

    def keep(place: tuple[slice, slice, slice], mean: np.ndarray) -> None:
        view[(slice(None), *place)] = mean

    return result, keep


def tile_count(fields: Sequence[Field], memory_bytes: float) -> int:
    """Return into how many tiles `home` cuts the scan so that what its sources hold fits the memory."""
    ways = _ways(fields)
    around = _around(ways)
    return len(_tiles(ways, around, _reading_axis(ways), memory_bytes))


def bytes_held(fields: Sequence[Field], memory_bytes: float = math.inf) -> float:
    """Return what the fields' sources hold at once when tiles are cut to fit the memory, without computing anything."""
    ways = _ways(fields)
    axis = _reading_axis(ways)
    tile = max(_tiles(ways, _around(ways), axis, memory_bytes), key=lambda box: math.prod(box.shape))
    return _tile_bytes(ways, tile, axis)


def readings(fields: Sequence[Field], memory_bytes: float = math.inf) -> Iterator[tuple[int, int, Box]]:
    """Yield (number of the field, axis, part) for all that is opened of sources on the way home, in their own axes."""
    ways = _ways(fields)
    axis = _reading_axis(ways)
    for tile in _tiles(ways, _around(ways), axis, memory_bytes):
        for number, way in enumerate(ways):
            if _part(way, tile) is not None:
                yield number, way.order[axis], _opened(way, tile, axis)


def mean_slabs(
    fields: Sequence[Field], *, output: Output, slab_bytes: int = SLAB_BYTES
) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield boxes of the oriented grid with the weighted mean of the fields' probabilities there, (K, z, Y, X).

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    return _mean_slabs(_ways(fields), output, slab_bytes)


def _ways(fields: Sequence[Field]) -> list[_Way]:
    """Return every field along the first one's axes, the weights of each class adding up to 1."""
    classes = fields[0].array.shape[0]
    weights = np.array([np.broadcast_to(field.weight, classes) for field in fields], np.float64)
    weights = (weights / weights.sum(axis=0)).astype(np.float32)
    first = fields[0].passage.oriented
    ways = []
    for field, weight in zip(fields, weights, strict=True):
        passage = field.passage
        order, flips = steps_between(passage.oriented, first)
        coarse = anisotropic_axis(passage.oriented.spacing_mm, passage.network.spacing_mm)
        crop, along = passage.crop, []
        for axis, (old, new) in enumerate(zip(passage.network.shape, passage.crop.shape, strict=True)):
            every = taps(old, new, axis == coarse)
            low, high = (0, old) if field.inside is None else (field.inside.start[axis], field.inside.stop[axis])
            every, start, stop = _within(every, low, high)
            crop = _narrow(crop, axis, start, stop)
            along.append(every)
        # Equal outer edges look the same from either end, so taps are permuted but never flipped.
        if any(flips) and field.inside is not None:
            raise DataError("a part of a scan cannot be mirrored on its way home", code="mirrored_part")
        box = _turn_box(crop, passage.oriented.shape, order, flips)
        z, y, x = (along[axis] for axis in order)
        source, turned = _as_source(field.array, order, flips)
        ways.append(_Way(source, turned, box, (z, y, x), weight))
    return ways


def _within(along: Taps, low: int, high: int) -> tuple[Taps, int, int]:
    """Return taps, counted from `low`, of the voxels nearest to old voxels `low` to `high`, and which those are."""
    lower, upper, weight = along
    nearest = np.where(weight > 0.5, upper, lower)
    places = np.flatnonzero((nearest >= low) & (nearest < high))
    start, stop = (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)
    part = slice(start, stop)
    inside = (np.clip(index[part], low, high - 1) - low for index in (lower, upper))
    return (*inside, weight[part]), start, stop  # type: ignore[return-value]


def _narrow(box: Box, axis: int, start: int, stop: int) -> Box:
    first, last = list(box.start), list(box.stop)
    first[axis], last[axis] = box.start[axis] + start, box.start[axis] + stop
    return Box(start=tuple(first), stop=tuple(last))


def _as_source(array: Any, order: tuple[int, ...], flips: Sequence[bool]) -> tuple[Source, tuple[int, ...]]:
    if isinstance(array, np.ndarray):
        return _Stored(permute(array, order, flips)), (0, 1, 2)
    if any(flips):  # a network is read forwards only; grids of one scan differ by the order of axes alone
        z, y, x = array.shape[1:]
        whole = array.open(0, Box(start=(0, 0, 0), stop=(z, y, x))).read(0, z)
        return _Stored(permute(whole.cpu().numpy(), order, flips)), (0, 1, 2)
    return array, order


def _require_finite(logits: np.ndarray) -> None:
    # A comparison with nan is never true: without this every voxel would quietly become background.
    for value, layer in enumerate(logits):
        if not np.isfinite(layer).all():
            raise DataError(
                f"the network's output for class {value} is not finite",
                fix="The model is damaged or its training has diverged: train it again, or leave it out.",
                code="not_finite",
            )


def _turn_box(box: Box, shape: Sequence[int], order: Sequence[int], flips: Sequence[bool]) -> Box:
    start, stop = [], []
    for axis, flip in zip(order, flips, strict=True):
        start.append(shape[axis] - box.stop[axis] if flip else box.start[axis])
        stop.append(shape[axis] - box.start[axis] if flip else box.stop[axis])
    return Box(start=tuple(start), stop=tuple(stop))


def _around(ways: Sequence[_Way]) -> Box:
    """Return the box around every crop."""
    start = tuple(min(way.box.start[axis] for way in ways) for axis in range(3))
    stop = tuple(max(way.box.stop[axis] for way in ways) for axis in range(3))
    return Box(start=start, stop=stop)


def _reading_axis(ways: Sequence[_Way]) -> int:
    """Return the axis along which the slabs that sources hold are the smallest share of their grids.

    It follows from shapes alone, never from memory: the order in which windows are added up must not change with it.
    """

    def share(axis: int) -> float:
        return sum(min(1.0, way.source.depth[way.order[axis]] / max(1, way.shape()[axis])) for way in ways)

    return min(range(3), key=share)


def _tiles(ways: Sequence[_Way], around: Box, axis: int, memory_bytes: float) -> list[Box]:
    """Return boxes, whole along `axis`, that are small enough for what sources hold to fit the memory."""
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


def _cut(box: Box, cuts: Sequence[int]) -> list[Box]:
    edges = [
        [low + round(size * place / count) for place in range(count + 1)]
        for low, size, count in zip(box.start, box.shape, cuts, strict=True)
    ]
    z, y, x = ([(a, b) for a, b in pairwise(along)] for along in edges)
    return [Box(start=(zs[0], ys[0], xs[0]), stop=(zs[1], ys[1], xs[1])) for zs in z for ys in y for xs in x]


def _tile_bytes(ways: Sequence[_Way], tile: Box, axis: int) -> float:
    total = 0.0
    for way in ways:
        part = _part(way, tile)
        if part is not None:
            own = _own(way, _read_box(way, part))
            total += way.source.bytes_held(way.order[axis], own.shape)
    return total


def _part(way: _Way, box: Box) -> Part | None:
    """Return what a box of the oriented grid and the way's own box share, counted within the latter."""
    low = [max(a, b) for a, b in zip(box.start, way.box.start)]
    high = [min(a, b) for a, b in zip(box.stop, way.box.stop)]
    if any(a >= b for a, b in zip(low, high)):
        return None
    return tuple(slice(a - s, b - s) for a, b, s in zip(low, high, way.box.start))


def _read_box(way: _Way, part: Part) -> Box:
    """Return the part of the network's grid that voxels of the crop read, in the first field's order of axes."""
    read = [window(along, piece)[0] for along, piece in zip(way.along, part, strict=True)]
    return Box(start=tuple(piece.start for piece in read), stop=tuple(piece.stop for piece in read))


def _own(way: _Way, box: Box) -> Box:
    """Return a box of the first field's order in the order of the source's own axes."""
    start, stop = [0, 0, 0], [0, 0, 0]
    for place, axis in enumerate(way.order):
        start[axis], stop[axis] = box.start[place], box.stop[place]
    return Box(start=tuple(start), stop=tuple(stop))


def _opened(way: _Way, tile: Box, axis: int) -> Box:
    """Return what is opened of a source for a tile: whole along the axis, in the source's own order of axes."""
    box = _read_box(way, _part(way, tile) or ())
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = 0, way.shape()[axis]
    return _own(way, Box(start=tuple(start), stop=tuple(stop)))


@dataclass
class _Reader:
    """One way while a tile of it is read, slab by slab."""

    way: _Way
    axis: int
    tile: Box
    rows: Rows | None = None

    def blocks(self, part: Part) -> tuple[Tensor, list[Taps]]:
        """Return logits (K, ...) in the first field's order, and the taps that lead from them to `part`."""
        read = [window(along, piece) for along, piece in zip(self.way.along, part, strict=True)]
        if self.rows is None:
            own = _opened(self.way, self.tile, self.axis)
            self.rows = self.way.source.open(self.way.order[self.axis], own)
        along = read[self.axis][0]
        block = self.rows.read(along.start, along.stop)
        return block.permute(0, *(1 + axis for axis in self.way.order)), [item for _, item in read]


def _slabs_of(tile: Box, axis: int, arrays: int, slab_bytes: int) -> Iterator[Box]:
    """Yield slabs of a tile along the axis so that `arrays` float32 arrays of a slab fit the bytes."""
    size = tile.shape[axis]
    rows = max(1, slab_bytes // max(1, 4 * arrays * (math.prod(tile.shape) // max(1, size))))
    for first in range(0, size, rows):
        yield _narrow(tile, axis, first, min(first + rows, size))


def _largest_logit(way: _Way, view: np.ndarray, slab_bytes: int, memory_bytes: float) -> None:
    """Write the class of the largest logit into `view`: slab by slab, class by class, with a running maximum."""
    from autoseg.images import rising

    axis = _reading_axis([way])
    for tile in _tiles([way], way.box, axis, memory_bytes):
        reader = _Reader(way, axis, tile)
        for slab in _slabs_of(tile, axis, max(4, _logits_a_voxel(way, tile) // LOGIT_SLABS), slab_bytes):
            block, along = reader.blocks(_part(way, slab) or ())
            view[slab.slices()] = rising.largest(block, along, view.dtype)


def _logits_a_voxel(way: _Way, tile: Box) -> int:
    """Return how many logits are read of the network's grid for a voxel of the tile: few where that is coarse."""
    read = _read_box(way, _part(way, tile) or ())
    return way.source.shape[0] * math.prod(read.shape) // max(1, math.prod(tile.shape))


def _mean_slabs(
    ways: Sequence[_Way], output: Output, slab_bytes: int, memory_bytes: float = math.inf
) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield slabs of the box around every crop with the weighted mean of all fields' probabilities (K, z, y, x)."""
    around, axis = _around(ways), _reading_axis(ways)
    classes = ways[0].source.shape[0]
    # Classes that are mixed differently do not add up to 1 by themselves.
    uneven = output == "softmax" and any(np.ptp(way.weight) > 0 for way in ways)
    for tile in _tiles(ways, around, axis, memory_bytes):
        readers = [_Reader(way, axis, tile) for way in ways]
        for slab in _slabs_of(tile, axis, 2 * classes + 3, slab_bytes):
            mean = np.zeros((classes, *slab.shape), np.float32)
            for reader in readers:
                _add(mean, reader, slab, output)
            if uneven:
                mean /= np.maximum(mean.sum(axis=0), np.finfo(np.float32).tiny)
            yield slab, mean


def _add(mean: np.ndarray, reader: _Reader, slab: Box, output: Output) -> None:
    """Add one field's weighted probabilities to `mean`, which lies on `slab`; outside its crop all is background."""
    from autoseg.images import rising

    way = reader.way
    if output == "softmax":
        mean[0] += way.weight[0]
    part = _part(way, slab)
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


def _argmax(probabilities: np.ndarray) -> np.ndarray:
    best, chosen = probabilities[0].copy(), np.zeros(probabilities.shape[1:], np.int16)
    for value, layer in enumerate(probabilities[1:], start=1):
        better = layer > best
        np.copyto(chosen, value, where=better)
        np.copyto(best, layer, where=better)
    return chosen
