"""Masks to closed contours: outer lines and holes of every piece, in voxel indices."""

from __future__ import annotations

import numpy as np

from autoseg.images.boxes import box_of

# The line runs between the outermost voxel inside and the first one outside. A hair nearer to the inside, readers that
# round points to voxels (all that use OpenCV) find the voxels of the mask, and those that do not lose 0.01 pixel.
LEVEL = 0.51


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return closed contours (n, 2) of points (y, x), the last not repeating the first, n at least 4.

    Args:
        mask: Bool (Y, X). Pixels that touch at a corner alone are two pieces.
    """
    from skimage.measure import find_contours

    box = box_of(mask)
    if box is None:
        return []
    corner = np.array([part.start for part in box])
    found = find_contours(np.pad(mask[box], 1).astype(np.float32), LEVEL, fully_connected="low")
    return [_without_straight_points(line[:-1] + (corner - 1)) for line in found]


def _without_straight_points(line: np.ndarray) -> np.ndarray:
    """Drop the points in the middle of straight runs; the shape stays the same."""
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-6
    return np.asarray(line[turns])
