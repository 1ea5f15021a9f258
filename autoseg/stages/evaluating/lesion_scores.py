"""Lesions of one structure in one case, with where they lie in the patient."""

from __future__ import annotations

import numpy as np

from autoseg.images.measures.lesions import Lesion, lesions
from autoseg.records.evaluation import LesionDetail, LesionScore
from autoseg.records.geometry import Grid, Triple

# LPS: along x, y, z the numbers grow towards the first of each pair.
SIDES = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))


def lesion_scores(
    truth: np.ndarray, prediction: np.ndarray, grid: Grid, *, corner: tuple[int, ...], least_overlap_fraction: float
) -> tuple[LesionScore, float]:
    """Return one structure lesion by lesion, and the F1 of detecting them.

    Args:
        truth: Bool, (Z, Y, X), a part of the image that holds both masks.
        prediction: Bool, the shape of `truth`.
        grid: Of the whole image.
        corner: Voxel index (z, y, x) of the part's first voxel.
        least_overlap_fraction: Share of a lesion's voxels that must be predicted; 0: one voxel is enough.
    """
    found = lesions(truth, prediction, spacing_mm=grid.spacing_mm, least_overlap_fraction=least_overlap_fraction)
    score = LesionScore(
        lesions=found.every.truths,
        found=found.every.found,
        false_positives=found.every.false_positives,
        small_lesions=found.small.truths,
        small_found=found.small.found,
        small_false_positives=found.small.false_positives,
        sensitivity=found.every.sensitivity,
        precision=found.every.precision,
        lesion_dice=found.lesion_dice,
        panoptic_quality=found.panoptic_quality,
        segmentation_quality=found.segmentation_quality,
        recognition_quality=found.recognition_quality,
        details=tuple(_detail(item, grid, corner) for item in found.details),
    )
    return score, found.every.f1


def place_in(grid: Grid, centre_mm: Triple) -> str:
    """Return on which side of the middle of a scan a point (x, y, z in LPS, mm) lies, in three words."""
    middle = grid.affine() @ [*((n - 1) / 2 for n in grid.shape), 1]
    words = (names[0] if at >= half else names[1] for names, at, half in zip(SIDES, centre_mm, middle[:3], strict=True))
    return " ".join(words)


def _detail(lesion: Lesion, grid: Grid, corner: tuple[int, ...]) -> LesionDetail:
    index = [*(at + start for at, start in zip(lesion.centre, corner, strict=True)), 1.0]
    x, y, z = (float(number) for number in (grid.affine() @ index)[:3])
    return LesionDetail(
        kind=lesion.kind,
        centre_mm=(x, y, z),
        place=place_in(grid, (x, y, z)),
        volume_ml=lesion.voxels * grid.voxel_ml(),
        diameter_mm=lesion.diameter_mm,
        dice=lesion.dice,
    )
