"""Where the patient is in a scan: the body without the air around it and without the couch."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from autoseg.images.boxes import box_of
from autoseg.records.geometry import Box, Grid, Shape

MARGIN_MM = 10.0
COARSE_MM = 3.0  # a body's outline is known well enough at this step, and found in tens of milliseconds
AIR_HU, SOFT_HU = -1000.0, 0.0
BRIGHTEST_PERCENT = 99.0  # of MR: above lie vessels and fat near the coil, which would draw the threshold upwards
NECK_MM = 5.0  # what hangs on the body by less than this is a couch or a cushion


def body_mask(array: np.ndarray, grid: Grid, *, kind: str, dilate_mm: float = 0.0) -> np.ndarray:
    """Return where the body is: the largest piece above Otsu's threshold, its holes filled.

    Args:
        array: One channel, (Z, Y, X).
        grid: Where its voxels lie.
        kind: `ct` reads the values as HU, so that the threshold falls between air and soft tissue.
        dilate_mm: How far the mask reaches beyond the skin.

    Returns:
        Bool, (Z, Y, X); True everywhere in a scan without contrast.

    Source:
        Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    steps = _steps(grid)
    coarse = _body(array[:: steps[0], :: steps[1], :: steps[2]], _spacing(grid, steps), kind)
    if dilate_mm > 0 and not coarse.all():
        coarse = ndimage.distance_transform_edt(~coarse, sampling=_spacing(grid, steps)) <= dilate_mm
    for axis, step in enumerate(steps):
        coarse = np.repeat(coarse, step, axis=axis)
    z, y, x = grid.shape
    return np.ascontiguousarray(coarse[:z, :y, :x])


def body_box(array: np.ndarray, grid: Grid, *, kind: str, margin_mm: float = MARGIN_MM) -> Box:
    """Return the box around the body with a margin; see `body_mask` for the arguments."""
    found = box_of(body_mask(array, grid, kind=kind))
    assert found is not None  # a body has voxels
    margins = [math.ceil(margin_mm / mm) for mm in grid.spacing_mm]
    start = [max(0, part.start - margin) for part, margin in zip(found, margins, strict=True)]
    stop = [min(size, part.stop + margin) for size, part, margin in zip(grid.shape, found, margins, strict=True)]
    return Box(start=_shape(start), stop=_shape(stop))


def otsu(values: np.ndarray, *, bins: int = 256) -> float | None:
    """Return the threshold that splits values into the two classes that vary least; None where all are one value.

    Args:
        values: Finite, any shape.
        bins: Of the histogram between the least and the greatest value.
    """
    low, high = float(values.min()), float(values.max())
    if not low < high:
        return None
    counts, edges = np.histogram(values, bins, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = values.size - below
    sums = np.cumsum(counts * middles)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (means[0] - means[1]) ** 2
    best = np.flatnonzero(between == between.max())
    return float(edges[1:-1][best].mean())  # in the middle of an empty gap


def _body(array: np.ndarray, spacing_mm: tuple[float, ...], kind: str) -> np.ndarray:
    bounds = (AIR_HU, SOFT_HU) if kind == "ct" else (-np.inf, float(np.percentile(array, BRIGHTEST_PERCENT)))
    values = np.clip(array, *bounds)
    threshold = otsu(values)
    if threshold is None:
        return np.ones(array.shape, bool)
    above = values > threshold
    body = _largest(_opened(above, spacing_mm))
    if not body.any():
        body = _largest(above)
    # Slice by slice, because the lungs of a chest scan are open at its top and bottom.
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def _opened(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Cut necks that are thinner than NECK_MM within a slice: a couch touches the back along a line."""
    rows, columns = (max(1, round(NECK_MM / 2 / step)) for step in spacing_mm[1:])
    if min(mask.shape[1:]) <= 4 * max(rows, columns):
        return mask
    return np.asarray(ndimage.binary_opening(mask, np.ones((1, 2 * rows + 1, 2 * columns + 1), bool)))


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1)


def _steps(grid: Grid) -> Shape:
    return _shape([max(1, int(COARSE_MM / step)) for step in grid.spacing_mm])


def _spacing(grid: Grid, steps: Shape) -> tuple[float, ...]:
    return tuple(step * mm for step, mm in zip(steps, grid.spacing_mm, strict=True))


def _shape(values: list[int]) -> Shape:
    z, y, x = values
    return (z, y, x)
