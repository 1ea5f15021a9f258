"""The way home: network outputs on the network's grid become labels on the grid of the scan.

# K class, Z Y X voxel

Outputs are read in rows along one axis, as arrays or from a network that computes them as they are read, and go up
to the scan's resolution in slabs of bounded bytes, where need be in tiles across that axis. Results are written
through a view into an array that has the scan's own axes already: there is never a K x full resolution copy. Every
number is computed voxel by voxel in a fixed order, so the result does not depend on how slabs and tiles are cut.

What is read is `fields.py`, where it lies `ways.py`, how it is cut `tiles.py`, what a slab of it says `slabs.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoseg.images.fields import Field, Output
from autoseg.images.orientation import reorient
from autoseg.images.slabs import SLAB_BYTES, Keep, mean_slabs, write_largest
from autoseg.images.ways import Part
from autoseg.records.errors import DataError


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
    view = reorient(labels, passage.original, passage.oriented)
    if output == "softmax" and len(fields) == 1:
        write_largest(fields[0], view, slab_bytes=slab_bytes, memory_bytes=memory_bytes, keep=keep)
        return labels
    for box, mean in mean_slabs(fields, output=output, slab_bytes=slab_bytes, memory_bytes=memory_bytes):
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
    for box, mean in mean_slabs(fields, output="sigmoid", slab_bytes=slab_bytes, memory_bytes=memory_bytes):
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
        regions: Bits, (Z, Y, X), as `home_regions` gives them.
        region_values: What each region paints.

    Returns:
        (Z, Y, X), uint8, or int16 where values exceed 250.
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
    for box, mean in mean_slabs(fields, output=output, slab_bytes=slab_bytes):
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

    def keep(place: Part, mean: np.ndarray) -> None:
        view[(slice(None), *place)] = mean

    return result, keep


def _argmax(probabilities: np.ndarray) -> np.ndarray:
    best, chosen = probabilities[0].copy(), np.zeros(probabilities.shape[1:], np.int16)
    for value, layer in enumerate(probabilities[1:], start=1):
        better = layer > best
        np.copyto(chosen, value, where=better)
        np.copyto(best, layer, where=better)
    return chosen
