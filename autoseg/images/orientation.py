"""Array axes along patient axes: the signed permutations between grids that see the same voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid

# Patient direction (x, y, z in LPS) that the array axes z, y, x should follow: superior, posterior, left.
CANONICAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def orient(array: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Return the array with axes (z, y, x) closest to patient superior, posterior and left, and its grid.

    Voxels are moved, never interpolated: an oblique scan stays oblique.

    Args:
        array: (C, Z, Y, X) or (Z, Y, X), on `grid`.
        grid: Any direction.

    Returns:
        A view of `array` (`array` itself when nothing moves), and the grid of that view.
    """
    order, flips = signed_permutation(_axes(grid), CANONICAL)
    return permute(array, order, flips), permute_grid(grid, order, flips)


def orient_grid(grid: Grid) -> Grid:
    """Return the grid that `orient` gives."""
    return permute_grid(grid, *signed_permutation(_axes(grid), CANONICAL))


def reorient(array: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return a view of `array`, which lies on `source`, with its axes along those of `target`.

    Args:
        array: (C, Z, Y, X) or (Z, Y, X).
        source: The grid of `array`.
        target: The same voxels seen along other axes.

    Raises:
        DataError: The two grids differ by more than a signed permutation of axes.
    """
    return permute(array, *steps_between(source, target))


def steps_between(source: Grid, target: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return the signed permutation from one grid to another: source axis of each target axis, and its flip.

    Raises:
        DataError: The two grids differ by more than that.
    """
    order, flips = signed_permutation(_axes(source), _axes(target))
    words = permute_grid(source, order, flips).difference(target)
    if words is not None:
        raise DataError(
            f"two grids differ by more than the order of their axes: {words}",
            fix="Preprocess this case again.",
            code="grid_mismatch",
        )
    return order, flips


def signed_permutation(source: np.ndarray, target: np.ndarray) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return which source axis lies closest to each target axis (one each, best in sum), and whether it is flipped.

    Args:
        source: (3, 3), a unit vector in patient space a row.
        target: The same.
    """
    cosines = target @ source.T
    order = max(permutations(range(3)), key=lambda axes: round(sum(abs(cosines[i, axes[i]]) for i in range(3)), 9))
    return order, tuple(bool(cosines[i, order[i]] < 0) for i in range(3))


def permute(array: np.ndarray, order: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """Return a view whose spatial axis i is the array's axis `order[i]`, reversed where `flips[i]`."""
    if tuple(order) == (0, 1, 2) and not any(flips):
        return array
    leading = array.ndim - 3
    moved = array.transpose(*range(leading), *(leading + axis for axis in order))
    return moved[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flips))]


def permute_grid(grid: Grid, order: Sequence[int], flips: Sequence[bool]) -> Grid:
    """Return the grid of `permute(array, order, flips)` for an array on `grid`."""
    if tuple(order) == (0, 1, 2) and not any(flips):
        return grid
    affine = grid.affine()
    # The new first voxel is the old last one along every axis that is flipped.
    first = [grid.shape[axis] - 1 if flip else 0 for axis, flip in zip(order, flips, strict=True)]
    origin = affine[:3, 3] + sum(affine[:3, axis] * index for axis, index in zip(order, first, strict=True))
    columns = _axes(grid)[list(order)] * np.where(flips, -1.0, 1.0)[:, None]
    rows = (columns[::-1].T + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0
    return Grid(
        shape=tuple(grid.shape[axis] for axis in order),
        spacing_mm=tuple(grid.spacing_mm[axis] for axis in order),
        origin_mm=tuple((origin + 0.0).tolist()),
        direction=tuple(tuple(row) for row in rows),
    )


def _axes(grid: Grid) -> np.ndarray:
    """Return the patient direction of the array axes z, y, x, one a row."""
    return np.asarray(grid.direction, dtype=float)[:, ::-1].T
