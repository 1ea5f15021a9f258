"""What many cases say together: a row a structure, with intervals over patients, and the same for parts of the cases.

Means and medians are over cases; their 95 % intervals come from drawing patients anew (1000 times, with all their
cases), never slices or cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from autoseg.records.evaluation import Evaluation
from autoseg.records.record import Record
from autoseg.stages.evaluating.statistics import bootstrap_interval, bootstrap_ratio
from autoseg.stages.evaluating.tables import frame

SUCCESS_DICE = 0.7
NAN = float("nan")

# Distances are summarised by medians: an infinite one takes part there, where it would end a mean.
MEANS = (
    "dice",
    "iou",
    "precision",
    "recall",
    "surface_dice",
    "specificity",
    "slice_dice",
    "added_path_mm",
    "gi_tract_score",
    "volume_difference_ml",
    "lesion_f1",
    "lesion_dice",
    "panoptic_quality",
)
MEDIANS = ("hd95_mm", "hd_mm", "assd_mm")


class StructureSummary(Record):
    """One structure over all cases; nan is left out of every figure.

    Attributes:
        count: Cases with something to score.
        failed: Of these, cases where truth or prediction was empty.
        dice_mean, dice_median, dice_std: Over `count` cases; the standard deviation is the sample's.
        iou_mean, precision_mean, recall_mean, surface_dice_mean: Over `count` cases; precision counts as 0 where
            nothing was predicted of what is there.
        hd95_mm_median, assd_mm_median: In mm; infinite distances take part in a median, where they would end a mean.
        volume_difference_ml_mean: Predicted minus true volume: below 0 where too little is predicted on the whole.
        lesion_f1_mean: Over the cases in which lesions were counted; nan where nobody asked.
        specificity_mean, hd_mm_median, slice_dice_mean, added_path_mm_mean, gi_tract_score_mean: As above.
        success_fraction: Share of `count` cases whose Dice reaches `success_dice`.
        lesion_dice_mean, panoptic_quality_mean: Over the cases in which there were lesions or pieces.
        lesions: Of all cases together; nan where nobody asked, like everything that follows.
        lesion_sensitivity: Found of all lesions of all cases; `small_` below 10 mm diameter, `large_` the others.
        lesion_precision: Found lesions of found lesions and false positives, all cases together.
        false_positives_per_case: Over all cases in which the structure was annotated, with or without lesions.
        intervals: Name of a mean or median above -> its 95 % bootstrap interval over patients; none with fewer than
            five patients.
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
    assd_mm_median: float = NAN
    volume_difference_ml_mean: float = NAN
    lesion_f1_mean: float = NAN
    specificity_mean: float = NAN
    hd_mm_median: float = NAN
    slice_dice_mean: float = NAN
    added_path_mm_mean: float = NAN
    gi_tract_score_mean: float = NAN
    success_dice: float = SUCCESS_DICE
    success_fraction: float = NAN
    lesion_dice_mean: float = NAN
    panoptic_quality_mean: float = NAN
    lesions: float = NAN
    lesion_sensitivity: float = NAN
    small_lesion_sensitivity: float = NAN
    large_lesion_sensitivity: float = NAN
    lesion_precision: float = NAN
    false_positives_per_case: float = NAN
    intervals: dict[str, tuple[float, float]] = {}


def summarise(
    evaluation: Evaluation, groups: Mapping[str, str] | None = None, *, success_dice: float = SUCCESS_DICE
) -> list[StructureSummary]:
    """Return every structure over all cases, in the order of the labels.

    Args:
        evaluation: Scores of the cases.
        groups: Case -> patient; a case that is not named is a patient of its own.
        success_dice: From which Dice on a case counts as a success.
    """
    table = frame(evaluation)
    table["patient"] = [(groups or {}).get(case, case) for case in table["case"]]
    return [_summary(str(name), rows, success_dice) for name, rows in table.groupby("structure", sort=False)]


def success_of_cases(evaluation: Evaluation, success_dice: float = SUCCESS_DICE) -> float:
    """Return the share of cases in which every structure with something to score reaches a Dice; nan without any."""
    outcomes = []
    for score in evaluation.scores:
        dice = [item.dice for item in score.structures if not math.isnan(item.dice)]
        if dice:
            outcomes.append(min(dice) >= success_dice)
    return float(np.mean(outcomes)) if outcomes else NAN


def _summary(name: str, rows: pd.DataFrame, success_dice: float) -> StructureSummary:
    scored = rows[rows["dice"].notna()]
    failed = (scored["truth_ml"] == 0) | (scored["predicted_ml"] == 0) | (scored["hd95_mm"] == math.inf)
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for columns, statistic in ((MEANS, "mean"), (MEDIANS, "median")):
        for column in columns:
            key = f"{column}_{statistic}"
            values = scored[column]
            figures[key] = float(values.mean() if statistic == "mean" else values.median())
            bounds = _interval(values, scored["patient"], "mean" if statistic == "mean" else "median")
            if bounds is not None:
                intervals[key] = bounds
    return StructureSummary(
        structure=name,
        count=len(scored),
        failed=int(failed.sum()),
        dice_median=float(scored["dice"].median()),
        dice_std=float(scored["dice"].std()),
        success_dice=success_dice,
        success_fraction=float((scored["dice"] >= success_dice).mean()) if len(scored) else NAN,
        intervals=intervals | _further_intervals(rows, scored["dice"] >= success_dice, scored["patient"]),
        **figures,
        **_lesions(rows),
    )


def _further_intervals(rows: pd.DataFrame, success: pd.Series, patients: pd.Series) -> dict[str, tuple[float, float]]:
    # -> the intervals of the figures that are no means over scored cases of a column
    found = {"success_fraction": bootstrap_interval(success.to_numpy(float), list(patients), key="summary")}
    counted = rows[rows["lesions"].notna()]
    everyone = list(counted["patient"])
    spurious, hits = counted["lesion_false_positives"].to_numpy(float), counted["lesions_found"].to_numpy(float)
    found["false_positives_per_case"] = bootstrap_interval(spurious, everyone, key="summary")
    for name, wholes in (
        ("lesion_sensitivity", counted["lesions"].to_numpy(float)),
        ("lesion_precision", hits + spurious),
    ):
        found[name] = bootstrap_ratio(hits, wholes, everyone, key="summary")
    return {name: bounds for name, bounds in found.items() if bounds is not None}


def _interval(
    values: pd.Series, patients: pd.Series, statistic: Literal["mean", "median"]
) -> tuple[float, float] | None:
    numbers = values.to_numpy(dtype=np.float64)
    there = ~np.isnan(numbers)
    of: Sequence[str] = list(patients[there])
    return bootstrap_interval(numbers[there], of, key="summary", statistic=statistic)


def _lesions(rows: pd.DataFrame) -> dict[str, float]:
    counted = rows[rows["lesions"].notna()]
    if not len(counted):
        return {}
    total = counted[[name for name in counted.columns if "lesion" in name]].sum()
    large = total["lesions"] - total["small_lesions"]
    large_found = total["lesions_found"] - total["small_lesions_found"]
    return {
        "lesions": float(total["lesions"]),
        "lesion_sensitivity": _share(total["lesions_found"], total["lesions"]),
        "small_lesion_sensitivity": _share(total["small_lesions_found"], total["small_lesions"]),
        "large_lesion_sensitivity": _share(large_found, large),
        "lesion_precision": _share(total["lesions_found"], total["lesions_found"] + total["lesion_false_positives"]),
        "false_positives_per_case": float(counted["lesion_false_positives"].mean()),
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else NAN
