"""One prediction against its truth.

What counts, stated once: where truth and prediction are both empty there is nothing to score (nan, left out of every
mean); where exactly one is empty the structure failed (every share 0, distances infinite; volumes, counts and the path
to draw are amounts and stay what they are); a missing prediction fails every structure that the truth holds; a
structure that nobody annotated in the case is nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from autoseg.images.boxes import box_around
from autoseg.images.measures import slicewise
from autoseg.images.measures.overlap import overlap_of_counts, specificity_of_counts
from autoseg.images.measures.surfaces import surface_distances
from autoseg.records.errors import DataError
from autoseg.records.evaluation import CaseScore, StructureScore
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels
from autoseg.records.metrics import Scoring
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.lesion_scores import lesion_scores

USUAL = Scoring()


def score(
    case_id: str,
    labels: Labels,
    truth: LabelMap,
    prediction: LabelMap,
    *,
    annotated: Sequence[str] | None = None,
    scoring: Scoring = USUAL,
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
        scoring: What is computed.

    Raises:
        DataError: The grids differ; nothing is resampled or broadcast.
    """
    check_geometry(case_id, truth, prediction)
    predicted = _without_ignored(labels, truth.array, prediction.array)
    places = _Places(truth.array, predicted, len(labels.structures))
    known = annotated_targets(labels, annotated)
    if scoring.targets is not None:
        known &= scoring.targets
    ignored = 0 if labels.ignore_value is None else int(np.count_nonzero(truth.array == labels.ignore_value))
    rows = []
    for name, values in labels.targets:
        if name in known:
            box = places.around(values)
            masks = _mask(truth.array[box], values), _mask(predicted[box], values)
            part = _Part(*masks, truth.grid, corner=tuple(s.start for s in box), voxels=truth.array.size - ignored)
            rows.append(_score_structure(name, part, scoring))
        else:
            rows.append(_nothing(name, scoring.tolerance_of(name)))
    return CaseScore(case=case_id, structures=tuple(rows))


def missing(
    case_id: str,
    labels: Labels,
    truth: LabelMap,
    *,
    annotated: Sequence[str] | None = None,
    scoring: Scoring = USUAL,
) -> CaseScore:
    """Return the score of a case that has no prediction: 0 for every structure that the truth holds, else nan."""
    nothing = LabelMap(np.zeros_like(truth.array), truth.grid)
    result = score(case_id, labels, truth, nothing, annotated=annotated, scoring=scoring)
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


@dataclass(frozen=True)
class _Part:
    """The masks of one structure, cut to the box that holds both.

    Attributes:
        truth, prediction: Bool, (Z, Y, X).
        grid: Of the whole image.
        corner: Voxel index (z, y, x) of the box's first voxel in the image.
        voxels: Of the whole image, those that are ignored left out.
    """

    truth: np.ndarray
    prediction: np.ndarray
    grid: Grid
    corner: tuple[int, ...]
    voxels: int

    def in_space(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks so that one slice of a thicker volume is a thin slab that keeps both of its faces."""
        if self.grid.shape[0] == 1 or self.truth.shape[0] != 1:
            return self.truth, self.prediction
        truth, prediction = (np.pad(mask, ((0, 1), (0, 0), (0, 0))) for mask in (self.truth, self.prediction))
        return truth, prediction


def _score_structure(name: str, part: _Part, scoring: Scoring) -> StructureScore:
    in_truth, in_prediction = int(np.count_nonzero(part.truth)), int(np.count_nonzero(part.prediction))
    both = int(np.count_nonzero(part.truth & part.prediction))
    figures = overlap_of_counts(both, in_truth, in_prediction)
    counted = _nothing(name, scoring.tolerance_of(name)).model_copy(
        update={
            "dice": figures.dice,
            "iou": figures.iou,
            "precision": figures.precision,
            "recall": figures.recall,
            "specificity": specificity_of_counts(both, in_truth, in_prediction, voxels=part.voxels),
            "truth_ml": in_truth * part.grid.voxel_ml(),
            "predicted_ml": in_prediction * part.grid.voxel_ml(),
        }
    )
    return counted.model_copy(update=_costlier(part, scoring, scoring.tolerance_of(name)))


def _costlier(part: _Part, scoring: Scoring, tolerance_mm: float) -> dict[str, object]:
    # -> the figures that need more than counts, as far as they are asked for
    found: dict[str, object] = {}
    masks, axis = (part.truth, part.prediction), slicewise.slice_axis(part.grid)
    if "surfaces" in scoring.families:
        surfaces = surface_distances(*part.in_space(), part.grid.spacing_mm)
        found["hd95_mm"], found["hd_mm"] = surfaces.hausdorff_mm(), surfaces.greatest_mm()
        found["surface_dice"], found["assd_mm"] = surfaces.dice(tolerance_mm), surfaces.average_mm()
    if "slices" in scoring.families:
        found["slice_dice"] = slicewise.slice_dice(*masks, axis=axis)
        found["added_path_mm"] = slicewise.added_path_mm(*masks, axis=axis, spacing_mm=part.grid.spacing_mm)
    if "gi_tract" in scoring.families:
        found["gi_tract_score"] = slicewise.gi_tract_score(*masks, axis=axis, shape=part.grid.shape)
    if "lesions" in scoring.families:
        found["lesions"], found["lesion_f1"] = lesion_scores(
            *part.in_space(),
            part.grid,
            corner=part.corner,
            least_overlap_fraction=scoring.least_overlap_fraction,
        )
    return found


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
    )


def _words(grid: Grid) -> str:
    spacing = ", ".join(f"{number:.4g}" for number in grid.spacing_mm)
    origin = ", ".join(f"{number:.4g}" for number in grid.origin_mm)
    return f"shape {grid.shape}, spacing ({spacing}) mm (z, y, x), origin ({origin}) mm (x, y, z)"
