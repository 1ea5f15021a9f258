"""Scores of predictions: lesion by lesion, structure by structure, case by case."""

from __future__ import annotations

from typing import Literal

from autoseg.records.geometry import Triple
from autoseg.records.metrics import NAMES
from autoseg.records.record import Record


class LesionDetail(Record):
    """One lesion of the truth, found or missed, or one predicted piece that is none.

    Attributes:
        centre_mm: Its mean voxel in the patient, (x, y, z) in LPS, in mm.
        place: Where that lies about the middle of the scan: `left anterior superior` and the like.
        diameter_mm: Of the ball (in 2D the disc) with its content.
        dice: A found lesion against all pieces that touch it; 0 for the others.
    """

    kind: Literal["found", "missed", "false_positive"]
    centre_mm: Triple
    place: str
    volume_ml: float
    diameter_mm: float
    dice: float


class LesionScore(Record):
    """One structure of one case lesion by lesion; the rule of matching stands in `images/measures/lesions.py`.

    Attributes:
        lesions, found: Of the truth, and those of them that were found.
        false_positives: Predicted pieces that touch no lesion.
        small_lesions, small_found, small_false_positives: Of these, those below 10 mm diameter.
        sensitivity, precision, lesion_dice, panoptic_quality, segmentation_quality, recognition_quality: 0 to 1; nan
            without lesions and pieces, 0 when exactly one side has none.
        details: Every lesion, then every false positive.
    """

    lesions: int
    found: int
    false_positives: int
    small_lesions: int
    small_found: int
    small_false_positives: int
    sensitivity: float
    precision: float
    lesion_dice: float
    panoptic_quality: float
    segmentation_quality: float
    recognition_quality: float
    details: tuple[LesionDetail, ...] = ()


class StructureScore(Record):
    """How well one structure (or region) of one case was segmented; nan = nothing to score, or nobody asked.

    A figure is a field rather than a row of a mapping: its unit stands in its name, a slip of the pen is an error, and
    every file has the same columns. `records/metrics.py` lists them all; `docs/metrics.md` defines them.

    Attributes:
        dice, iou, precision, recall, surface_dice: 0 to 1.
        hd95_mm: Maximum of the two sides' 95th percentiles, in mm; infinite when exactly one side is empty.
        surface_dice_tolerance_mm: Distance that still counted as agreement.
        assd_mm: Mean distance over both surfaces, in mm; infinite when exactly one side is empty, nan in older files.
        lesion_f1: Harmonic mean of the sensitivity and precision of detecting lesions, 0 to 1; nan when nobody asked.
        specificity: Share of the voxels outside the truth that were left alone, 0 to 1.
        hd_mm: Greatest distance of either surface to the other, in mm; infinite as `hd95_mm`.
        slice_dice: Mean over slices of Dice in the slice, 0 to 1.
        added_path_mm: Contour of the truth that the prediction lacks, in mm.
        gi_tract_score: 0.4 x slice-wise Dice + 0.6 x (1 - normalised Hausdorff distance), 0 to 1.
        lesions: Lesion by lesion; None when nobody asked.
    """

    structure: str
    dice: float
    iou: float
    precision: float
    recall: float
    hd95_mm: float
    surface_dice: float
    surface_dice_tolerance_mm: float
    truth_ml: float
    predicted_ml: float
    assd_mm: float = float("nan")
    lesion_f1: float = float("nan")
    specificity: float = float("nan")
    hd_mm: float = float("nan")
    slice_dice: float = float("nan")
    added_path_mm: float = float("nan")
    gi_tract_score: float = float("nan")
    lesions: LesionScore | None = None

    def figures(self) -> dict[str, float]:
        """Return every figure of `records/metrics.py` by its name; nan for what is not there."""
        own = self.model_dump(exclude={"structure", "lesions"})
        own["volume_difference_ml"] = self.predicted_ml - self.truth_ml
        if self.lesions is not None:
            counted = self.lesions.model_dump(exclude={"details"})
            own |= {LESION_FIGURES.get(name, name): float(value) for name, value in counted.items()}
        return {name: own.get(name, float("nan")) for name in NAMES}


# How fields of a LesionScore are called in a table where they stand beside other figures.
LESION_FIGURES = {
    "found": "lesions_found",
    "false_positives": "lesion_false_positives",
    "small_found": "small_lesions_found",
    "small_false_positives": "small_lesion_false_positives",
    "sensitivity": "lesion_sensitivity",
    "precision": "lesion_precision",
}


class CaseScore(Record):
    """The scores of one case. `missing` = there was no prediction: every structure counts as failed."""

    case: str
    structures: tuple[StructureScore, ...]
    missing: bool = False


class Evaluation(Record):
    """Scores of one model, one candidate over its folds, or an ensemble.

    Attributes:
        members: Names of what was evaluated (`ModelId.key()` or `.candidate()`).
        scores: One a case.
        inputs_digest: Digest of what produced it, to know when it is stale.
    """

    schema_version: Literal[1] = 1
    members: tuple[str, ...]
    scores: tuple[CaseScore, ...]
    inputs_digest: str = ""

    def mean_dice(self) -> float:
        """Return the mean over structures of the mean over cases of Dice, nan left out; nan when nothing counts."""
        by_structure: dict[str, list[float]] = {}
        for score in self.scores:
            for item in score.structures:
                if item.dice == item.dice:
                    by_structure.setdefault(item.structure, []).append(item.dice)
        means = [sum(values) / len(values) for values in by_structure.values()]
        return sum(means) / len(means) if means else float("nan")
