"""How much two masks of one structure have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoseg.records.errors import DataError


@dataclass(frozen=True)
class Overlap:
    """What two masks share, each figure 0 to 1; nan when both masks are empty, 0 when exactly one is.

    Attributes:
        dice: 2 |T and P| / (|T| + |P|).
        iou: |T and P| / |T or P|.
        precision: |T and P| / |P|.
        recall: |T and P| / |T|.
    """

    dice: float
    iou: float
    precision: float
    recall: float


def overlap(truth: np.ndarray, prediction: np.ndarray) -> Overlap:
    """Return the overlap of two masks.

    Args:
        truth: Bool, (Z, Y, X).
        prediction: Bool, the shape of `truth`.

    Raises:
        DataError: The shapes differ; nothing is broadcast.
    """
    check_shapes(truth, prediction)
    both = int(np.count_nonzero(truth & prediction))
    return overlap_of_counts(both, int(np.count_nonzero(truth)), int(np.count_nonzero(prediction)))


def overlap_of_counts(both: int, truth: int, prediction: int) -> Overlap:
    """Return the overlap from voxel counts: in both masks, in the truth, in the prediction."""
    if truth == 0 and prediction == 0:
        nothing = float("nan")
        return Overlap(nothing, nothing, nothing, nothing)
    return Overlap(
        dice=2.0 * both / (truth + prediction),
        iou=both / (truth + prediction - both),
        precision=both / prediction if prediction else 0.0,
        recall=both / truth if truth else 0.0,
    )


def specificity_of_counts(both: int, truth: int, prediction: int, *, voxels: int) -> float:
    """Return the share of the voxels outside the truth that were left alone, 0 to 1; nan and 0 as in `Overlap`.

    It depends on the field of view: a larger image around the same masks brings it closer to 1.

    Args:
        both: Voxels in both masks.
        truth: Voxels of the truth.
        prediction: Voxels of the prediction.
        voxels: Of the whole image, those that are ignored left out.
    """
    if truth == 0 and prediction == 0:
        return float("nan")
    if truth == 0 or prediction == 0:
        return 0.0
    outside = voxels - truth
    return (outside - (prediction - both)) / outside if outside else 1.0


def check_shapes(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Refuse masks of different shapes, which NumPy might broadcast into a figure without meaning.

    Raises:
        DataError: The shapes differ.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"the prediction has shape {prediction.shape} but the truth has {truth.shape}",
            fix="Bring both onto one grid before they are compared.",
            code="geometry_differs",
        )
