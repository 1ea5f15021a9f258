"""The way home: network outputs on the network's grid become labels on the grid of the scan.

# K class, Z Y X voxel

Outputs go up to the scan's resolution in slabs of bounded bytes along the first axis of the crop, and results are
written through a view into an array that has the scan's own axes already: there is never a K x full resolution copy.
Every number is computed voxel by voxel in a fixed order, so the result does not depend on how the slabs are cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.images.orientation import permute, reorient, steps_between
from autoseg.images.resizing import Taps, anisotropic_axis, interpolate, reach, taps, window
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box
from autoseg.records.volumes import Passage

Output = Literal["softmax", "sigmoid"]

SLAB_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Field:
    """What one model, or the mean of several on one grid, says of every voxel.

    Attributes:
        array: Logits, float32, (K, Z, Y, X) on `passage.network`.
        passage: The way of the scan to that grid.
        weight: Of this field among others; only ratios matter.
    """

    array: np.ndarray
    passage: Passage
    weight: float = 1.0


@dataclass(frozen=True)
class _Way:
    """One field seen along the axes of the first field's oriented grid: logits, its crop there, taps per axis."""

    logits: np.ndarray
    box: Box
    along: tuple[Taps, Taps, Taps]
    weight: float


def home(
    fields: Sequence[Field], *, output: Output, region_values: Sequence[int] = (), slab_bytes: int = SLAB_BYTES
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

    Returns:
        (Z, Y, X), uint8, or int16 where values exceed 250; 0 outside every crop.

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    highest = max(region_values, default=0) if output == "sigmoid" else fields[0].array.shape[0] - 1
    labels = np.zeros(fields[0].passage.original.shape, np.uint8 if highest <= 250 else np.int16)
    ways = _ways(fields)
    view = reorient(labels, fields[0].passage.original, fields[0].passage.oriented)
    if output == "softmax" and len(ways) == 1:
        _largest_logit(ways[0], view, slab_bytes)
        return labels
    for box, mean in _mean_slabs(ways, output, slab_bytes):
        if output == "softmax":
            view[box.slices()] = _argmax(mean)
            continue
        for probability, value in zip(mean, region_values, strict=True):
            np.copyto(view[box.slices()], value, where=probability > 0.5)
    return labels


def home_regions(fields: Sequence[Field], *, slab_bytes: int = SLAB_BYTES) -> np.ndarray:
    """Return which regions hold each voxel of the original grid, from sigmoid logits: bit k for region k.

    Args:
        fields: As in `home`.
        slab_bytes: Bound of the working memory beside the result.

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
    for box, mean in _mean_slabs(_ways(fields), "sigmoid", slab_bytes):
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
    passage = fields[0].passage
    result = np.zeros((fields[0].array.shape[0], *passage.original.shape), np.float32)
    if output == "softmax":
        result[0] = 1.0
    view = reorient(result, passage.original, passage.oriented)
    for box, mean in _mean_slabs(_ways(fields), output, slab_bytes):
        view[(slice(None), *box.slices())] = mean
    return result


def mean_slabs(
    fields: Sequence[Field], *, output: Output, slab_bytes: int = SLAB_BYTES
) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield boxes of the oriented grid with the weighted mean of the fields' probabilities there, (K, z, Y, X).

    Raises:
        DataError: A field is not finite, or the fields are not of one scan.
    """
    return _mean_slabs(_ways(fields), output, slab_bytes)


def _ways(fields: Sequence[Field]) -> list[_Way]:
    """Return every field along the first one's axes, weights adding up to 1."""
    total = sum(field.weight for field in fields)
    first = fields[0].passage.oriented
    ways = []
    for field in fields:
        _require_finite(field.array)
        passage = field.passage
        order, flips = steps_between(passage.oriented, first)
        coarse = anisotropic_axis(passage.oriented.spacing_mm, passage.network.spacing_mm)
        along = [
            taps(old, new, axis == coarse)
            for axis, (old, new) in enumerate(zip(passage.network.shape, passage.crop.shape, strict=True))
        ]
        # Equal outer edges look the same from either end, so taps are permuted but never flipped.
        box = _turn_box(passage.crop, passage.oriented.shape, order, flips)
        z, y, x = (along[axis] for axis in order)
        ways.append(_Way(permute(field.array, order, flips), box, (z, y, x), field.weight / total))
    return ways


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


def _largest_logit(way: _Way, view: np.ndarray, slab_bytes: int) -> None:
    """Write the class of the largest logit into `view`: slab by slab, class by class, with a running maximum."""
    parts = [_where_it_can_win(way, value) for value in range(way.logits.shape[0])]
    inside = view[way.box.slices()]
    for start, stop in _slabs(way.box.shape, 3, slab_bytes):
        labels = inside[start:stop]
        best = _climb(way, 0, (slice(start, stop), *parts[0][1:]))
        if best.base is not None or not best.flags.writeable:
            best = best.copy()
        for value, part in enumerate(parts[1:], start=1):
            z = slice(max(part[0].start, start), min(part[0].stop, stop))
            if z.start >= z.stop:
                continue
            there = (slice(z.start - start, z.stop - start), *part[1:])
            logits = _climb(way, value, (z, *part[1:]))
            better = logits > best[there]
            np.copyto(labels[there], value, where=better)
            np.copyto(best[there], logits, where=better)


def _where_it_can_win(way: _Way, value: int) -> tuple[slice, ...]:
    """Return the part of the crop outside of which class `value` lies below the background at every corner.

    An interpolated logit is a mean of its corners: where the class beats the background at none of them, it cannot
    win in between. For 100 organs these parts are a few times the scan instead of 100 times.
    """
    everything = tuple(slice(0, size) for size in way.box.shape)
    if value == 0:
        return everything
    ahead = way.logits[value] > way.logits[0]
    parts = []
    for axis, along in enumerate(way.along):
        places = np.flatnonzero(ahead.any(axis=tuple(a for a in range(3) if a != axis)))
        if places.size == 0:
            return (slice(0, 0),) * 3
        parts.append(reach(along, int(places[0]), int(places[-1]) + 1))
    return tuple(parts)


def _climb(way: _Way, value: int, part: tuple[slice, ...]) -> np.ndarray:
    """Return one class on the voxels `part` of the crop, at the scan's resolution."""
    read = [window(along, piece) for along, piece in zip(way.along, part, strict=True)]
    array = way.logits[value][tuple(source for source, _ in read)]
    for axis, (_, along) in enumerate(read):
        array = interpolate(array, axis, along)
    return array


def _mean_slabs(ways: Sequence[_Way], output: Output, slab_bytes: int) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield slabs of the box around every crop with the weighted mean of all fields' probabilities (K, z, Y, X)."""
    start = tuple(min(way.box.start[axis] for way in ways) for axis in range(3))
    stop = tuple(max(way.box.stop[axis] for way in ways) for axis in range(3))
    around = Box(start=start, stop=stop)
    classes = ways[0].logits.shape[0]
    for low, high in _slabs(around.shape, 2 * classes + 3, slab_bytes):
        slab = Box(start=(start[0] + low, *start[1:]), stop=(start[0] + high, *stop[1:]))
        mean = np.zeros((classes, *slab.shape), np.float32)
        for way in ways:
            _add(mean, way, slab, output)
        yield slab, mean


def _add(mean: np.ndarray, way: _Way, slab: Box, output: Output) -> None:
    """Add one field's weighted probabilities to `mean`, which lies on `slab`; outside its crop all is background."""
    inner = [
        (max(a, c), min(b, d)) for a, b, c, d in zip(slab.start, slab.stop, way.box.start, way.box.stop, strict=True)
    ]
    there = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, slab.start, strict=True))
    part = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, way.box.start, strict=True))
    if output == "softmax":
        mean[0] += np.float32(way.weight)
    if any(a >= b for a, b in inner):
        return
    logits = np.stack([_climb(way, value, part) for value in range(way.logits.shape[0])])
    _to_probabilities(logits, output)
    logits *= np.float32(way.weight)
    if output == "softmax":
        mean[0][there] -= np.float32(way.weight)
    mean[(slice(None), *there)] += logits


def _to_probabilities(logits: np.ndarray, output: Output) -> None:
    """Turn logits (K, z, Y, X) into probabilities in place."""
    if output == "softmax":
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        # Added up class by class: the order, and so the last bit, does not depend on the size of the slab.
        total = logits[0].copy()
        for layer in logits[1:]:
            total += layer
        logits /= total
        return
    # tanh does not overflow where exp(-x) would.
    logits *= np.float32(0.5)
    np.tanh(logits, out=logits)
    logits += np.float32(1)
    logits *= np.float32(0.5)


def _argmax(probabilities: np.ndarray) -> np.ndarray:
    best, chosen = probabilities[0].copy(), np.zeros(probabilities.shape[1:], np.int16)
    for value, layer in enumerate(probabilities[1:], start=1):
        better = layer > best
        np.copyto(chosen, value, where=better)
        np.copyto(best, layer, where=better)
    return chosen


def _slabs(shape: Sequence[int], arrays: int, slab_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) along the first axis so that `arrays` float32 arrays of a slab fit the bytes."""
    rows = max(1, slab_bytes // (4 * arrays * math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])
