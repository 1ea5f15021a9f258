"""One prediction against its truth.

What counts, stated once: where truth and prediction are both empty there is nothing to score (nan, left out of every
mean); where exactly one is empty the structure failed (Dice 0, distance infinite); a missing prediction fails every
structure that the truth holds; a structure that nobody annotated in the case is nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects

from autoseg.images.measures.lesions import lesions as found_lesions
from autoseg.images.measures.overlap import overlap_of_counts
from autoseg.images.measures.surfaces import surface_distances
from autoseg.images.postprocess import box_around
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels
from autoseg.records.results import CaseScore, StructureScore
from autoseg.records.volumes import LabelMap


def score(
    case_id: str,
    labels: Labels,
    truth: LabelMap,
    prediction: LabelMap,
    *,
    annotated: Sequence[str] | None = None,
    tolerance_mm: float = 2.0,
    lesions: bool = False,
) -> CaseScore:
    """Return how well every structure (or region) of one case was segmented.

    Voxels that the truth ignores are taken out of the prediction as well; the edge of such a part then counts as
    surface of a prediction that reaches into it.

    Args:
        case_id: For the score and for errors.
        labels: Which structures or regions are scored (`Labels.targets`).
        truth: Inside values, (Z, Y, X).
        prediction: Inside values on the truth's grid.
        annotated: Names of the structures that were annotated in this case; None means all. A region needs all of
            its structures.
        tolerance_mm: For the surface Dice, in mm.
        lesions: Whether lesions are counted too (`lesion_f1`); every connected piece of a structure is one.

    Raises:
        DataError: The grids differ; nothing is resampled or broadcast.
    """
    check_geometry(case_id, truth, prediction)
    predicted = _without_ignored(labels, truth.array, prediction.array)
    places = _Places(truth.array, predicted, len(labels.structures))
    known = annotated_targets(labels, annotated)
    rows = []
    for name, values in labels.targets:
        if name in known:
            box = places.around(values)
            masks = _mask(truth.array[box], values), _mask(predicted[box], values)
            rows.append(_score_structure(name, *masks, grid=truth.grid, tolerance_mm=tolerance_mm, lesions=lesions))
        else:
            rows.append(_nothing(name, tolerance_mm))
    return CaseScore(case=case_id, structures=tuple(rows))


def missing(
    case_id: str,
    labels: Labels,
    truth: LabelMap,
    *,
    annotated: Sequence[str] | None = None,
    tolerance_mm: float = 2.0,
    lesions: bool = False,
) -> CaseScore:
    """Return the score of a case that has no prediction: 0 for every structure that the truth holds, else nan."""
    nothing = LabelMap(np.zeros_like(truth.array), truth.grid)
    result = score(case_id, labels, truth, nothing, annotated=annotated, tolerance_mm=tolerance_mm, lesions=lesions)
    return result.model_copy(update={"missing": True})


def check_geometry(case_id: str, truth: LabelMap, prediction: LabelMap) -> None:
    """Refuse a prediction that does not lie on the truth's grid.

    Raises:
        DataError: The grids differ, or an array has another shape than its grid says.
    """
    difference = truth.grid.difference(prediction.grid)
    if difference is None and truth.array.shape != prediction.array.shape:
        difference = f"shape {prediction.array.shape} instead of {truth.array.shape} (z, y, x)"
    if difference is not None:
        raise DataError(
            f"the prediction lies on another grid than the truth: {difference}. "
            f"Prediction: {_words(prediction.grid)}. Truth: {_words(truth.grid)}",
            case=case_id,
            fix="Resample the prediction onto the truth's grid (labels: nearest) and evaluate again.",
            code="geometry_differs",
        )


def annotated_targets(labels: Labels, annotated: Sequence[str] | None) -> frozenset[str]:
    """Return the names of the structures or regions that can be scored where only `annotated` was annotated."""
    if annotated is None:
        return frozenset(name for name, _ in labels.targets)
    there = {item.value for item in labels.structures if item.name in annotated}
    return frozenset(name for name, values in labels.targets if there.issuperset(values))


class _Places:
    """Where the values of two label maps lie, found in one pass over each, so that every structure reads its box."""

    def __init__(self, truth: np.ndarray, prediction: np.ndarray, count: int):
        self.boxes = (find_objects(truth, count), find_objects(prediction, count))

    def around(self, values: Sequence[int]) -> tuple[slice, ...]:
        """Return the smallest box that holds all voxels of `values` in both; one without voxels where there is none."""
        found = [box for boxes in self.boxes if (box := box_around(boxes, values)) is not None]
        if not found:
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*found, strict=True))


def _without_ignored(labels: Labels, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    if labels.ignore_value is None:
        return prediction
    return np.where(truth == labels.ignore_value, 0, prediction).astype(prediction.dtype)


def _mask(array: np.ndarray, values: Sequence[int]) -> np.ndarray:
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def _score_structure(
    name: str, truth: np.ndarray, prediction: np.ndarray, *, grid: Grid, tolerance_mm: float, lesions: bool
) -> StructureScore:
    in_truth, in_prediction = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    figures = overlap_of_counts(int(np.count_nonzero(truth & prediction)), in_truth, in_prediction)
    if grid.shape[0] > 1:
        # One slice of a thicker volume is a thin slab and keeps both of its faces.
        truth, prediction = _thicken(truth), _thicken(prediction)
    surfaces = surface_distances(truth, prediction, grid.spacing_mm)
    return StructureScore(
        structure=name,
        dice=figures.dice,
        iou=figures.iou,
        precision=figures.precision,
        recall=figures.recall,
        hd95_mm=surfaces.hausdorff_mm(),
        surface_dice=surfaces.dice(tolerance_mm),
        surface_dice_tolerance_mm=tolerance_mm,
        truth_ml=in_truth * grid.voxel_ml(),
        predicted_ml=in_prediction * grid.voxel_ml(),
        assd_mm=surfaces.average_mm(),
        lesion_f1=found_lesions(truth, prediction, spacing_mm=grid.spacing_mm).every.f1 if lesions else math.nan,
    )


def _thicken(mask: np.ndarray) -> np.ndarray:
    return np.pad(mask, ((0, 1), (0, 0), (0, 0))) if mask.shape[0] == 1 else mask


def _nothing(name: str, tolerance_mm: float) -> StructureScore:
    return StructureScore(
        structure=name,
        dice=math.nan,
        iou=math.nan,
        precision=math.nan,
        recall=math.nan,
        hd95_mm=math.nan,
        surface_dice=math.nan,
        surface_dice_tolerance_mm=tolerance_mm,
        truth_ml=math.nan,
        predicted_ml=math.nan,
        assd_mm=math.nan,
        lesion_f1=math.nan,
    )


def _words(grid: Grid) -> str:
    spacing = ", ".join(f"{number:.4g}" for number in grid.spacing_mm)
    origin = ", ".join(f"{number:.4g}" for number in grid.origin_mm)
    return f"shape {grid.shape}, spacing ({spacing}) mm (z, y, x), origin ({origin}) mm (x, y, z)"
