"""Closed contours to masks: which voxel centres lie inside.

A voxel belongs to a contour when its centre lies inside or on the line. The centre rule is unbiased for contours drawn
between voxels, as planning systems draw them, and the line counts because some tools (all that use OpenCV) draw it
through the centres of the outermost voxels: with either habit a mask comes back as it was, half a pixel neither lost
nor won. An even number of contours around a voxel means outside (XOR), which makes holes and islands in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SNAP_PIXELS = 0.01  # coordinates are decimal texts; a line this close to a centre was meant to go through it
INSIDE_FRACTION = 0.9  # this much of a contour within another one makes it a hole rather than an overlap


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Return the mask of all contours of one slice, and how many overlap another one without lying in it.

    Args:
        polygons: (n, 2) points (y, x) in voxel indices, n at least 3; the last point joins the first.
        shape: Rows and columns.

    Returns:
        Bool (Y, X). Contours that cross one another are united; equal ones count once.
    """
    result, covered, lines = (np.zeros(shape, bool) for _ in range(3))
    crossing = 0
    for polygon in sorted(_distinct(polygons), key=_area, reverse=True):
        inside, line = rasterise(polygon, shape)
        lines |= line
        within = inside & covered
        share = within.sum() / max(inside.sum(), 1)
        if share >= INSIDE_FRACTION:
            result ^= within
        else:
            result |= inside
            crossing += bool(share > 0)
        covered |= inside
    return result | lines, crossing


def rasterise(polygon: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels whose centres lie inside one contour (even-odd), and those whose centres lie on its line.

    Args:
        polygon: Points (n, 2) as (y, x), in pixels; the last is joined to the first.
        shape: (Y, X).

    Returns:
        Two bool arrays (Y, X).
    """
    inside, line = np.zeros(shape, np.int32), np.zeros(shape, bool)
    whole = np.rint(polygon)
    start = np.where(np.abs(polygon - whole) <= SNAP_PIXELS, whole, polygon)
    stop = np.roll(start, -1, axis=0)
    _toggle(inside, start, stop)
    _draw(line, start, stop)
    return (np.cumsum(inside, axis=1) & 1).astype(bool), line


def _distinct(polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
    seen = {np.round(polygon[np.lexsort(polygon.T)], 3).tobytes(): polygon for polygon in polygons}
    return list(seen.values())


def _area(polygon: np.ndarray) -> float:
    y, x = polygon.T
    return float(abs(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1))) / 2)


def _crossings(start: np.ndarray, stop: np.ndarray, first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the rows that edges cross, `count` from `first` on for each edge, and where along x."""
    edge = np.repeat(np.arange(len(start)), count)
    rows = np.repeat(first, count) + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    (y0, x0), (y1, x1) = start[edge].T, stop[edge].T
    return rows.astype(int), x0 + (rows - y0) * (x1 - x0) / (y1 - y0)


def _toggle(inside: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
    """Add 1 at the first centre to the right of each crossing; the running sum along a row is then odd inside."""
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.clip(np.ceil(low), 0, inside.shape[0])
    count = np.maximum(np.clip(np.ceil(high), 0, inside.shape[0]) - first, 0).astype(int)
    rows, x = _crossings(start, stop, first, count)
    columns = np.clip(np.ceil(x - 1e-9), 0, inside.shape[1]).astype(int)
    keep = columns < inside.shape[1]
    np.add.at(inside, (rows[keep], columns[keep]), 1)


def _draw(line: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
    """Mark the centres that lie on an edge."""
    flat = start[:, 0] == stop[:, 0]
    for (y, x0), (_, x1) in zip(start[flat], stop[flat], strict=True):
        if y == round(y) and 0 <= y < line.shape[0]:
            low, high = int(np.ceil(max(min(x0, x1), 0))), int(np.floor(max(x0, x1)))
            line[int(y), low : high + 1] = True
    start, stop = start[~flat], stop[~flat]
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    first = np.maximum(np.ceil(low), 0)
    count = np.maximum(np.minimum(np.floor(high), line.shape[0] - 1) - first + 1, 0).astype(int)
    rows, x = _crossings(start, stop, first, count)
    columns = np.rint(x)
    keep = (np.abs(x - columns) <= 1e-6) & (columns >= 0) & (columns < line.shape[1])
    line[rows[keep], columns[keep].astype(int)] = True
