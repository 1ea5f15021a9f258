"""The way of each field home: where it lies among the others, and which of its voxels a part of the scan reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.images.fields import Field, Source, as_source
from autoseg.images.orientation import steps_between
from autoseg.images.resizing import Taps, anisotropic_axis, taps, window
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box
from autoseg.records.volumes import Passage

Part = tuple[slice, ...]


@dataclass(frozen=True)
class Way:
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

    def part(self, box: Box) -> Part | None:
        """Return what a box of the oriented grid and the way's own box share, counted within the latter."""
        low = [max(a, b) for a, b in zip(box.start, self.box.start)]
        high = [min(a, b) for a, b in zip(box.stop, self.box.stop)]
        if any(a >= b for a, b in zip(low, high)):
            return None
        return tuple(slice(a - s, b - s) for a, b, s in zip(low, high, self.box.start))

    def read_box(self, part: Part) -> Box:
        """Return the part of the network's grid that voxels of the crop read, in the first field's order of axes."""
        read = [window(along, piece)[0] for along, piece in zip(self.along, part, strict=True)]
        return Box(start=tuple(piece.start for piece in read), stop=tuple(piece.stop for piece in read))

    def opened(self, tile: Box, axis: int) -> Box:
        """Return what is opened of the source for a tile: whole along the axis, in the source's own order of axes."""
        return self._own(spanning(self.read_box(self.part(tile) or ()), axis, 0, self.shape()[axis]))

    def bytes_held(self, tile: Box, axis: int) -> float:
        """Return what the source holds while a tile is read along the axis."""
        part = self.part(tile)
        if part is None:
            return 0.0
        return self.source.bytes_held(self.order[axis], self._own(self.read_box(part)).shape)

    def _own(self, box: Box) -> Box:
        """Return a box of the first field's order in the order of the source's own axes."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for place, axis in enumerate(self.order):
            start[axis], stop[axis] = box.start[place], box.stop[place]
        return Box(start=tuple(start), stop=tuple(stop))


def ways_of(fields: Sequence[Field]) -> list[Way]:
    """Return every field along the first one's axes, the weights of each class adding up to 1.

    Raises:
        DataError: The fields are not of one scan, or a part of a scan would have to be mirrored.
    """
    classes = fields[0].array.shape[0]
    weights = np.array([np.broadcast_to(field.weight, classes) for field in fields], np.float64)
    weights = (weights / weights.sum(axis=0)).astype(np.float32)
    first = fields[0].passage
    return [_way(field, first, weight) for field, weight in zip(fields, weights, strict=True)]


def _way(field: Field, first: Passage, weight: np.ndarray) -> Way:
    oriented = field.passage.oriented
    order, flips = steps_between(oriented, first.oriented)
    # Equal outer edges look the same from either end, so taps are permuted but never flipped.
    if any(flips) and field.inside is not None:
        raise DataError("a part of a scan cannot be mirrored on its way home", code="mirrored_part")
    crop, along = _taps_of(field)
    box = _turned(crop, oriented.shape, order, flips)
    z, y, x = (along[axis] for axis in order)
    source, turned = as_source(field.array, order, flips)
    return Way(source, turned, box, (z, y, x), weight)


def _taps_of(field: Field) -> tuple[Box, list[Taps]]:
    """Return the part of the crop that a field covers, and the taps along each of its axes."""
    passage = field.passage
    coarse = anisotropic_axis(passage.oriented.spacing_mm, passage.network.spacing_mm)
    crop, along = passage.crop, []
    for axis, (old, new) in enumerate(zip(passage.network.shape, passage.crop.shape, strict=True)):
        every = taps(old, new, axis == coarse)
        low, high = (0, old) if field.inside is None else (field.inside.start[axis], field.inside.stop[axis])
        every, start, stop = _within(every, low, high)
        first = passage.crop.start[axis]
        crop = spanning(crop, axis, first + start, first + stop)
        along.append(every)
    return crop, along


def _within(along: Taps, low: int, high: int) -> tuple[Taps, int, int]:
    """Return taps, counted from `low`, of the voxels nearest to old voxels `low` to `high`, and which those are."""
    lower, upper, weight = along
    nearest = np.where(weight > 0.5, upper, lower)
    places = np.flatnonzero((nearest >= low) & (nearest < high))
    start, stop = (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)
    part = slice(start, stop)
    first, last = (np.clip(index[part], low, high - 1) - low for index in (lower, upper))
    return (first, last, weight[part]), start, stop


def spanning(box: Box, axis: int, start: int, stop: int) -> Box:
    """Return the box as it is but for one axis, along which it spans `start` to `stop`."""
    first, last = list(box.start), list(box.stop)
    first[axis], last[axis] = start, stop
    return Box(start=tuple(first), stop=tuple(last))


def _turned(box: Box, shape: Sequence[int], order: Sequence[int], flips: Sequence[bool]) -> Box:
    """Return where a box of a grid of `shape` lies once its axes are permuted and flipped."""
    start, stop = [], []
    for axis, flip in zip(order, flips, strict=True):
        start.append(shape[axis] - box.stop[axis] if flip else box.start[axis])
        stop.append(shape[axis] - box.start[axis] if flip else box.stop[axis])
    return Box(start=tuple(start), stop=tuple(stop))
