"""Cleaning a label map: applying the steps; which steps help is decided by `stages/ensembling/postprocessing.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cc3d
import numpy as np
from scipy.ndimage import binary_fill_holes, find_objects

from autoseg.images.boxes import box_around
from autoseg.records.choice import PostprocessingStep
from autoseg.records.errors import DataError
from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels

CONNECTIVITY: Final = 26  # voxels that touch at a corner belong together


def apply(
    labels: np.ndarray, steps: Sequence[PostprocessingStep], labels_record: Labels, spacing_mm: Triple
) -> np.ndarray:
    """Return the label map after all steps, in order; the input is never modified.

    What is taken away from a structure becomes background; what is taken away from a region becomes the smallest
    region around it, or background. Only background is filled.

    Args:
        labels: Inside values, (Z, Y, X).
        steps: Each names a structure or a region of `labels_record`.
        labels_record: What the values mean.
        spacing_mm: Voxel size along (z, y, x), in mm.

    Raises:
        DataError: A step names a structure that there is not.
    """
    result = labels.copy()
    for step in steps:
        values = _values(step.structure, labels_record)
        box = box_around(find_objects(result, max(values)), values)
        if box is None:
            continue
        part = result[box]  # a view of our own copy
        mask = np.isin(part, values)
        cleaned = clean(mask, step, spacing_mm=spacing_mm, flat=labels.shape[0] == 1)
        part[mask & ~cleaned] = _beneath(step.structure, values, labels_record)
        part[cleaned & (part == 0)] = _paint(step.structure, values, labels_record)
    return result


def apply_to_regions(
    regions: np.ndarray, steps: Sequence[PostprocessingStep], labels: Labels, spacing_mm: Triple
) -> np.ndarray:
    """Return regions (bit k for region k) after all steps that name one, each cleaned by itself.

    Args:
        regions: Unsigned, (Z, Y, X); never modified.
        steps: In order; those that name a structure concern the label map alone.
        labels: Names the regions.
        spacing_mm: Voxel size along (z, y, x), in mm.
    """
    result = regions.copy()
    places = {region.name: place for place, region in enumerate(labels.regions)}
    for step in steps:
        if step.structure not in places:
            continue
        bit = result.dtype.type(1 << places[step.structure])
        cleaned = clean((result & bit) != 0, step, spacing_mm=spacing_mm, flat=regions.shape[0] == 1)
        np.copyto(result, np.where(cleaned, result | bit, result & ~bit))
    return result


def clean(mask: np.ndarray, step: PostprocessingStep, *, spacing_mm: Triple, flat: bool) -> np.ndarray:
    """Return the mask after one step.

    Args:
        mask: Bool, (Z, Y, X).
        step: `keep_largest`, `drop_below` (pieces under `value` mm3) or `fill_holes`.
        spacing_mm: Voxel size along (z, y, x), in mm.
        flat: Whether the whole image is one slice.
    """
    if step.kind == "keep_largest":
        return keep_largest(mask)
    if step.kind == "drop_below":
        return drop_below(mask, step.value, spacing_mm=spacing_mm)
    return fill_holes(mask, flat=flat)


def keep_largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a bool mask (Z, Y, X); of two equal ones, the first in array order."""
    pieces, sizes = connected_pieces(mask)
    if len(sizes) < 2:
        return mask.copy()
    return np.asarray(pieces == 1 + int(np.argmax(sizes)))


def drop_below(mask: np.ndarray, volume_mm3: float, *, spacing_mm: Triple) -> np.ndarray:
    """Return a bool mask (Z, Y, X) without the connected pieces whose volume is below `volume_mm3`."""
    pieces, sizes = connected_pieces(mask)
    keep = np.concatenate(([False], sizes * math.prod(spacing_mm) >= volume_mm3))
    return keep[pieces]


def fill_holes(mask: np.ndarray, *, flat: bool) -> np.ndarray:
    """Return a bool mask (Z, Y, X) with its closed holes filled.

    Args:
        mask: Bool, (Z, Y, X).
        flat: The image is one slice: holes of the plane count. Else a mask of one slice is open above and below.
    """
    if flat:
        return np.asarray(binary_fill_holes(mask[0]))[None]
    return np.asarray(binary_fill_holes(mask))


def piece_volumes_mm3(mask: np.ndarray, *, spacing_mm: Triple) -> np.ndarray:
    """Return the volume of every connected piece of a bool mask (Z, Y, X), float64, in mm3."""
    _, sizes = connected_pieces(mask)
    return sizes * math.prod(spacing_mm)


def connected_pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pieces of a bool mask (Z, Y, X), numbered from 1, and how many voxels piece 1, 2, ... has."""
    # cc3d 4.1 reserves too few labels for tiny bool arrays ("maximum length exception"); a margin gives it enough.
    pieces = np.asarray(cc3d.connected_components(np.pad(mask, 1), connectivity=CONNECTIVITY))[1:-1, 1:-1, 1:-1]
    return pieces, np.bincount(pieces.ravel())[1:]


def _values(name: str, labels: Labels) -> tuple[int, ...]:
    named = {item.name: (item.value,) for item in labels.structures} | dict(labels.targets)
    if name not in named:
        raise DataError(
            f"post-processing names {name!r}, which is no structure here",
            fix=f"There are: {', '.join(named)}.",
            code="unknown_structure",
        )
    return named[name]


def _paint(name: str, values: Sequence[int], labels: Labels) -> int:
    painted = {region.name: value for region, value in zip(labels.regions, labels.region_values, strict=True)}
    return painted.get(name, values[0])


def _beneath(name: str, values: Sequence[int], labels: Labels) -> int:
    around = [r for r in labels.regions if r.name != name and set(r.values) > set(values)]
    if not around or name not in {region.name for region in labels.regions}:
        return 0
    smallest = min(around, key=lambda region: len(region.values))
    return _paint(smallest.name, smallest.values, labels)
