"""Free-response curves: how many lesions are found at how many false positives a case, and where to cut.

A structure's probability is cut at a series of thresholds; at each of them lesions are counted by the rule of
`images/measures/lesions.py`. Where to cut is chosen out of fold: the cases of a fold are judged at the threshold that
was best on the cases of the other folds, so that the figures beside it are honest; the threshold for new scans is the
one that is best on all cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.images.boxes import box_of
from autoseg.images.measures.lesions import lesions
from autoseg.images.measures.overlap import check_shapes
from autoseg.records.errors import UsageError
from autoseg.records.geometry import Triple
from autoseg.records.record import Record

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
# The mean sensitivity at these is the score of LUNA16 (Setio et al. 2017, arXiv:1612.08012).
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class HeldOutLesions:
    """Lesions of one held-out case at every threshold.

    Attributes:
        case, fold: The case, and the fold that holds it out.
        lesions: Of the truth.
        found, false_positives: Int64, one a threshold.
    """

    case: str
    fold: str
    lesions: int
    found: np.ndarray
    false_positives: np.ndarray


class FrocPoint(Record):
    """All cases at one threshold.

    Attributes:
        sensitivity: Found of all lesions; nan without lesions.
        precision: Found of found and false positives; 0 where nothing was found.
        f1: Their harmonic mean.
    """

    threshold: float
    sensitivity: float
    false_positives_per_case: float
    precision: float
    f1: float


class Froc(Record):
    """One structure of one model on the cases that it never saw.

    Attributes:
        cases, lesions: How many.
        points: From the lowest threshold to the highest.
        score: Mean over 1/8, 1/4, 1/2, 1, 2, 4, 8 false positives a case of the best sensitivity within them; 0 where
            no threshold stays within.
        threshold: For new scans: the best on all cases.
        chosen: Fold -> the threshold that was best on the other folds.
        honest: Every case at the threshold of its fold; `threshold` there is the mean of `chosen`.
        most_false_positives: What the choice had to stay within, a case; infinite: the greatest F1 was taken.
    """

    structure: str
    cases: int
    lesions: int
    points: tuple[FrocPoint, ...]
    score: float
    threshold: float
    chosen: dict[str, float]
    honest: FrocPoint
    most_false_positives: float = math.inf


def count_at_thresholds(
    case: str,
    truth: np.ndarray,
    probability: np.ndarray,
    *,
    fold: str,
    spacing_mm: Triple,
    least_overlap_fraction: float = 0.0,
) -> HeldOutLesions:
    """Return the lesions of one case at every threshold.

    Args:
        case: Its id.
        truth: Bool, (Z, Y, X).
        probability: 0 to 1, the shape of `truth`.
        fold: That holds the case out.
        spacing_mm: Voxel size along (z, y, x), in mm.
        least_overlap_fraction: Share of a lesion's voxels that must be predicted; 0: one voxel is enough.

    Raises:
        DataError: The shapes differ.
    """
    check_shapes(truth, probability)
    box = _box(truth | (probability >= THRESHOLDS[0]))
    truth, probability = truth[box], probability[box]
    rows = [
        lesions(
            truth, probability >= threshold, spacing_mm=spacing_mm, least_overlap_fraction=least_overlap_fraction
        ).every
        for threshold in THRESHOLDS
    ]
    return HeldOutLesions(
        case=case,
        fold=fold,
        lesions=rows[0].truths,
        found=np.array([row.found for row in rows]),
        false_positives=np.array([row.false_positives for row in rows]),
    )


def froc(structure: str, cases: Iterable[HeldOutLesions], *, most_false_positives: float = math.inf) -> Froc:
    """Return the curve and the operating point.

    Args:
        structure: Its name.
        cases: Of two folds or more, or the point cannot be chosen out of fold.
        most_false_positives: A case. Finite: the threshold with the greatest sensitivity within it (where none stays
            within, the one with the fewest); infinite: the threshold with the greatest F1. Of equals, the highest.

    Raises:
        UsageError: There is no lesion, or only one fold.
    """
    there = list(cases)
    folds = list(dict.fromkeys(item.fold for item in there))
    _check(structure, there, folds)
    points = _points(there)
    chosen = {
        fold: _best([item for item in there if item.fold != fold], most_false_positives) for fold in sorted(folds)
    }
    rows = [(item, chosen[item.fold]) for item in there]
    honest = _point(
        float(np.mean([THRESHOLDS[index] for index in chosen.values()])),
        lesions=sum(item.lesions for item in there),
        found=sum(int(item.found[index]) for item, index in rows),
        spurious=sum(int(item.false_positives[index]) for item, index in rows),
        cases=len(there),
    )
    return Froc(
        structure=structure,
        cases=len(there),
        lesions=sum(item.lesions for item in there),
        points=tuple(points),
        score=float(np.mean([_sensitivity_within(points, rate) for rate in RATES])),
        threshold=THRESHOLDS[_best(there, most_false_positives)],
        chosen={fold: THRESHOLDS[index] for fold, index in chosen.items()},
        honest=honest,
        most_false_positives=most_false_positives,
    )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    # -> the rows and columns where there is anything; all slices, or one of a volume would pass for a plane
    found = box_of(mask)
    return (slice(None), *found[1:]) if found else (slice(None), slice(0, 1), slice(0, 1))


def _check(structure: str, cases: Sequence[HeldOutLesions], folds: Sequence[str]) -> None:
    if not any(item.lesions for item in cases):
        raise UsageError(
            f"no held-out case has a lesion of {structure}", fix="Name another structure.", code="no_lesions"
        )
    check_folds(folds)


def check_folds(folds: Sequence[str]) -> None:
    """Refuse cases that one fold alone has held out.

    Raises:
        UsageError: A threshold cannot be judged.
    """
    if len(folds) < 2:
        raise UsageError(
            f"only fold {', '.join(folds)} has held-out cases, and a threshold is judged on other folds than it is "
            "chosen on",
            fix="Train a second fold, such as `-f 0..1`.",
            code="one_fold",
        )


def _points(cases: Sequence[HeldOutLesions]) -> list[FrocPoint]:
    total = sum(item.lesions for item in cases)
    found = np.sum([item.found for item in cases], axis=0)
    spurious = np.sum([item.false_positives for item in cases], axis=0)
    return [
        _point(threshold, lesions=total, found=int(found[i]), spurious=int(spurious[i]), cases=len(cases))
        for i, threshold in enumerate(THRESHOLDS)
    ]


def _point(threshold: float, *, lesions: int, found: int, spurious: int, cases: int) -> FrocPoint:
    return FrocPoint(
        threshold=threshold,
        sensitivity=found / lesions if lesions else math.nan,
        false_positives_per_case=spurious / cases,
        precision=found / (found + spurious) if found + spurious else 0.0,
        f1=2 * found / (lesions + found + spurious) if lesions + found + spurious else math.nan,
    )


def _best(cases: Sequence[HeldOutLesions], most_false_positives: float) -> int:
    # -> the index of the threshold to cut at
    points = list(enumerate(_points(cases)))
    if math.isinf(most_false_positives):
        return max(points, key=lambda pair: (np.nan_to_num(pair[1].f1), pair[0]))[0]
    within = [pair for pair in points if pair[1].false_positives_per_case <= most_false_positives]
    if not within:
        return min(points, key=lambda pair: (pair[1].false_positives_per_case, -pair[0]))[0]
    return max(within, key=lambda pair: (np.nan_to_num(pair[1].sensitivity), pair[0]))[0]


def _sensitivity_within(points: Sequence[FrocPoint], rate: float) -> float:
    return max((point.sensitivity for point in points if point.false_positives_per_case <= rate), default=0.0)
