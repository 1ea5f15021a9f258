"""Scores as tables: a row a case and structure, and a summary a structure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from autoseg.records.record import Record
from autoseg.records.results import Evaluation
from autoseg.workspace import writing

FIGURES = ("dice", "iou", "precision", "recall", "surface_dice", "hd95_mm")
VOLUMES = ("truth_ml", "predicted_ml", "volume_difference_ml")
COLUMNS = ("case", "missing", "structure", *FIGURES, "surface_dice_tolerance_mm", *VOLUMES, "assd_mm", "lesion_f1")


class StructureSummary(Record):
    """One structure over all cases; nan is left out of every figure.

    Attributes:
        count: Cases with something to score.
        failed: Of these, cases where truth or prediction was empty (Dice 0 without a surface to measure).
        dice_mean, dice_median, dice_std: Over `count` cases; the standard deviation is the sample's.
        iou_mean, precision_mean, recall_mean, surface_dice_mean: Over `count` cases; precision counts as 0 where
            nothing was predicted of what is there.
        hd95_mm_median, assd_mm_median: In mm; infinite distances take part in a median, where they would end a mean.
        volume_difference_ml_mean: Predicted minus true volume: below 0 where too little is predicted on the whole.
        lesion_f1_mean: Over the cases in which lesions were counted; nan where nobody asked.
    """

    structure: str
    count: int
    failed: int
    dice_mean: float
    dice_median: float
    dice_std: float
    iou_mean: float
    precision_mean: float
    recall_mean: float
    surface_dice_mean: float
    hd95_mm_median: float
    assd_mm_median: float = float("nan")
    volume_difference_ml_mean: float = float("nan")
    lesion_f1_mean: float = float("nan")


def frame(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a case and structure, in the order of the scores."""
    rows = [
        {"case": score.case, "missing": score.missing}
        | item.model_dump()
        | {"volume_difference_ml": item.predicted_ml - item.truth_ml}
        for score in evaluation.scores
        for item in score.structures
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """Write one row a case and structure as CSV; the file is there whole or not at all. nan and inf are written so.

    Raises:
        ResourceError: The file cannot be written.
    """
    with writing(path) as temporary:
        frame(evaluation).to_csv(temporary, index=False, float_format="%.6g", na_rep="nan", lineterminator="\n")


def summarise(evaluation: Evaluation) -> list[StructureSummary]:
    """Return mean, median, standard deviation and count of every structure, in the order of the labels."""
    table = frame(evaluation)
    return [_summary(str(name), rows) for name, rows in table.groupby("structure", sort=False)]


def _summary(name: str, rows: pd.DataFrame) -> StructureSummary:
    scored = rows[rows["dice"].notna()]
    dice = scored["dice"]
    return StructureSummary(
        structure=name,
        count=len(scored),
        failed=int((scored["hd95_mm"] == float("inf")).sum()),
        dice_mean=float(dice.mean()),
        dice_median=float(dice.median()),
        dice_std=float(dice.std()),
        iou_mean=float(scored["iou"].mean()),
        precision_mean=float(scored["precision"].mean()),
        recall_mean=float(scored["recall"].mean()),
        surface_dice_mean=float(scored["surface_dice"].mean()),
        hd95_mm_median=float(scored["hd95_mm"].median()),
        assd_mm_median=float(scored["assd_mm"].median()),
        volume_difference_ml_mean=float(scored["volume_difference_ml"].mean()),
        lesion_f1_mean=float(scored["lesion_f1"].mean()),
    )
