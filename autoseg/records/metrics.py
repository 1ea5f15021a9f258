"""Every figure that a structure of a case is scored by: its name, unit, direction and family.

The one list behind the columns of `scores.csv`, the words after `--metrics`, the direction of a ranking, and
`docs/metrics.md`, which defines each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Family = Literal["overlap", "surfaces", "slices", "gi_tract", "lesions"]


@dataclass(frozen=True)
class Metric:
    """One figure.

    Attributes:
        name: The column of `scores.csv`.
        family: What is computed together; `--metrics` asks for families or for single figures.
        unit: "" for a share of 0 to 1 and for counts.
        better: Which way is better, "" for an amount that is neither good nor bad by itself.
    """

    name: str
    family: Family
    unit: str = ""
    better: Literal["higher", "lower", ""] = "higher"


METRICS: tuple[Metric, ...] = (
    Metric("dice", "overlap"),
    Metric("iou", "overlap"),
    Metric("precision", "overlap"),
    Metric("recall", "overlap"),
    Metric("surface_dice", "surfaces"),
    Metric("hd95_mm", "surfaces", "mm", "lower"),
    Metric("surface_dice_tolerance_mm", "surfaces", "mm", ""),
    Metric("truth_ml", "overlap", "ml", ""),
    Metric("predicted_ml", "overlap", "ml", ""),
    Metric("volume_difference_ml", "overlap", "ml", ""),
    Metric("assd_mm", "surfaces", "mm", "lower"),
    Metric("lesion_f1", "lesions"),
    Metric("specificity", "overlap"),
    Metric("hd_mm", "surfaces", "mm", "lower"),
    Metric("slice_dice", "slices"),
    Metric("added_path_mm", "slices", "mm", "lower"),
    Metric("gi_tract_score", "gi_tract"),
    Metric("lesion_sensitivity", "lesions"),
    Metric("lesion_precision", "lesions"),
    Metric("lesion_dice", "lesions"),
    Metric("panoptic_quality", "lesions"),
    Metric("segmentation_quality", "lesions"),
    Metric("recognition_quality", "lesions"),
    Metric("lesions", "lesions", "", ""),
    Metric("lesions_found", "lesions", "", ""),
    Metric("lesion_false_positives", "lesions", "", "lower"),
    Metric("small_lesions", "lesions", "", ""),
    Metric("small_lesions_found", "lesions", "", ""),
    Metric("small_lesion_false_positives", "lesions", "", "lower"),
)
NAMES = tuple(metric.name for metric in METRICS)
FAMILIES: tuple[Family, ...] = tuple(dict.fromkeys(metric.family for metric in METRICS))
# Counts and surfaces are what every comparison needs; the others cost more, or mean something for some structures only.
DEFAULT_FAMILIES: frozenset[Family] = frozenset({"overlap", "surfaces"})

ORGAN_MM, METASTASIS_MM, TOTALSEGMENTATOR_MM = 2.0, 1.0, 3.0
METASTASES = re.compile(r"metasta|(?<![a-z])mets(?![a-z])|brainmets", re.IGNORECASE)


@dataclass(frozen=True)
class Scoring:
    """What is computed of each structure.

    Attributes:
        families: What is asked for; the figures of the others are nan. Overlap is always counted.
        tolerances_mm: Structure (or region) -> distance that counts as agreement in the surface Dice, in mm.
        tolerance_mm: Of the structures that `tolerances_mm` does not name.
        least_overlap_fraction: Share of a lesion's voxels that must be predicted; 0: one voxel is enough.
        targets: Names of the structures (or regions) that are scored, as far as they were annotated; None: all.
    """

    families: frozenset[Family] = DEFAULT_FAMILIES
    tolerances_mm: Mapping[str, float] = field(default_factory=dict)
    tolerance_mm: float = ORGAN_MM
    least_overlap_fraction: float = 0.0
    targets: frozenset[str] | None = None

    def tolerance_of(self, structure: str) -> float:
        """Return the tolerance of a structure's surface Dice, in mm."""
        return self.tolerances_mm.get(structure, self.tolerance_mm)


def usual_tolerance_mm(structure: str, *, dataset: str = "", layout: str = "") -> float:
    """Return the tolerance that a structure's surface Dice is published with, in mm.

    3 mm for TotalSegmentator (Wasserthal et al. 2023), 1 mm for metastases, 2 mm for everything else.

    Args:
        structure: Its name.
        dataset: Name of the data set, which may say that its structures are parts of metastases.
        layout: Of the data set (`Dataset.layout`).
    """
    if layout == "totalsegmentator":
        return TOTALSEGMENTATOR_MM
    return METASTASIS_MM if METASTASES.search(structure) or METASTASES.search(dataset) else ORGAN_MM
