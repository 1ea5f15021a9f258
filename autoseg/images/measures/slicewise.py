"""Figures of a structure slice by slice, the way people draw it.

Slices lie across the coarsest axis of the scan; where no axis is coarser than another by more than a hundredth, they
are axial. Which axis that is follows from the grid alone, so truth and prediction are cut alike.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt

from autoseg.images.measures.overlap import check_shapes
from autoseg.records.geometry import Grid, Shape, Triple

DICE_SHARE = 0.4  # of the score of the GI-tract challenge; the rest is the distance's


def slice_axis(grid: Grid) -> int:
    """Return the axis of a (Z, Y, X) array across which its slices lie: 0 in 2D, else the coarsest, else axial."""
    if grid.shape[0] == 1:
        return 0
    coarsest = max(grid.spacing_mm)
    likely = [axis for axis in range(3) if grid.spacing_mm[axis] > 0.99 * coarsest]
    # Row 2 of the direction is the patient's feet-to-head; its columns belong to x, y, z.
    return max(likely, key=lambda axis: (abs(grid.direction[2][2 - axis]), -axis))


def slice_dice(truth: np.ndarray, prediction: np.ndarray, *, axis: int) -> float:
    """Return the mean over slices of Dice in the slice; slices without a voxel in either mask are left out.

    Args:
        truth: Bool, (Z, Y, X).
        prediction: Bool, the shape of `truth`.
        axis: See `slice_axis`.

    Returns:
        0 to 1; 0 when exactly one mask is empty, nan when both are (nothing to score).

    Raises:
        DataError: The shapes differ.
    """
    check_shapes(truth, prediction)
    others = tuple(i for i in range(3) if i != axis)
    both = np.count_nonzero(truth & prediction, axis=others)
    size = np.count_nonzero(truth, axis=others) + np.count_nonzero(prediction, axis=others)
    there = size > 0
    return float((2.0 * both[there] / size[there]).mean()) if there.any() else math.nan


def added_path_mm(truth: np.ndarray, prediction: np.ndarray, *, axis: int, spacing_mm: Triple) -> float:
    """Return how much contour must still be drawn: the truth's contour pixels that the prediction's contour lacks.

    The contour of a slice is made of the mask's pixels that have a neighbour outside (of four); each counts as the
    geometric mean of the two pixel sizes. It is an amount of work, so an empty truth costs 0 even where something was
    predicted, and an empty prediction costs the whole contour.

    Args:
        truth: Bool, (Z, Y, X).
        prediction: Bool, the shape of `truth`.
        axis: See `slice_axis`.
        spacing_mm: Voxel size along (z, y, x), in mm.

    Returns:
        In mm; nan when both masks are empty (nothing to score).

    Raises:
        DataError: The shapes differ.

    Source:
        Vaassen et al. 2020, doi:10.1016/j.phro.2019.12.001, without a tolerance.
    """
    check_shapes(truth, prediction)
    if not (truth.any() or prediction.any()):
        return math.nan
    pixels = int(np.count_nonzero(_contour(truth, axis) & ~_contour(prediction, axis)))
    in_plane = [spacing_mm[i] for i in range(3) if i != axis]
    return pixels * math.sqrt(math.prod(in_plane))


def gi_tract_score(truth: np.ndarray, prediction: np.ndarray, *, axis: int, shape: Shape) -> float:
    """Return the score of the UW-Madison GI-tract challenge for one structure: Dice and Hausdorff distance in one.

    0.4 x slice-wise Dice + 0.6 x (1 - Hausdorff distance / diagonal of the image). The distance is the greatest from a
    voxel of either mask to the nearest of the other, in voxels: every axis counts 1 a voxel, slices too. The challenge
    says that locations are normalised by the image's size so that the score lies between 0 and 1; dividing by the
    diagonal is how published solutions read that.

    Args:
        truth: Bool, (Z, Y, X), the image or a part of it that holds both masks.
        prediction: Bool, the shape of `truth`.
        axis: See `slice_axis`.
        shape: Of the whole image.

    Returns:
        0 to 1; 0 when exactly one mask is empty, nan when both are (nothing to score).

    Raises:
        DataError: The shapes differ.

    Source:
        kaggle.com/competitions/uw-madison-gi-tract-image-segmentation, Evaluation (2022).
    """
    check_shapes(truth, prediction)
    if not (truth.any() and prediction.any()):
        return 0.0 if truth.any() or prediction.any() else math.nan
    distance = max(_furthest(truth, prediction), _furthest(prediction, truth)) / math.hypot(*shape)
    return DICE_SHARE * slice_dice(truth, prediction, axis=axis) + (1 - DICE_SHARE) * (1 - min(1.0, distance))


def _furthest(mask: np.ndarray, other: np.ndarray) -> float:
    # -> the greatest distance of a voxel of `mask` to the nearest of `other`, in voxels
    only = mask & ~other
    return float(distance_transform_edt(~other)[only].max()) if only.any() else 0.0


def _contour(mask: np.ndarray, axis: int) -> np.ndarray:
    inner = mask.copy()
    for across in (i for i in range(3) if i != axis):
        padded = np.pad(mask, [(1, 1) if i == across else (0, 0) for i in range(3)])
        before = np.take(padded, range(mask.shape[across]), axis=across)
        after = np.take(padded, range(2, mask.shape[across] + 2), axis=across)
        inner &= before & after
    return mask & ~inner
