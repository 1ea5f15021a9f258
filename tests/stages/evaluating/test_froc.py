"""Rows of voxels whose probabilities can be read off, and counts that were written down."""

import math

import numpy as np
import pytest

from autoseg.records.errors import DataError, UsageError
from autoseg.stages.evaluating.froc import THRESHOLDS, Froc, HeldOutLesions, count_at_thresholds, froc


def at(threshold: float) -> int:
    return THRESHOLDS.index(threshold)


def test_lesions_fall_away_one_by_one_as_the_threshold_rises():
    truth = np.array([[[1, 1, 0, 0, 1, 0, 0, 0]]], bool)
    probability = np.array([[[0.9, 0.8, 0.0, 0.0, 0.3, 0.0, 0.0, 0.6]]])
    found = count_at_thresholds("a", truth, probability, fold="0", spacing_mm=(1, 1, 1))
    assert found.lesions == 2
    assert found.found[[at(0.05), at(0.3), at(0.35), at(0.9), at(0.95)]].tolist() == [2, 2, 1, 1, 0]
    assert found.false_positives[[at(0.05), at(0.6), at(0.65)]].tolist() == [1, 1, 0]


def test_a_lesion_in_one_slice_of_a_volume_stays_in_space():
    truth = np.zeros((5, 9, 9), bool)
    truth[4, 2:5, 2:5] = True
    found = count_at_thresholds("a", truth, 0.7 * truth, fold="0", spacing_mm=(1, 1, 1))
    assert (found.lesions, found.found[at(0.7)], found.found[at(0.75)]) == (1, 1, 0)
    with pytest.raises(DataError, match="Bring both onto one grid"):
        count_at_thresholds("a", truth, np.ones((1, 9, 9)), fold="0", spacing_mm=(1, 1, 1))


def test_a_case_without_anything_counts_nothing():
    empty = np.zeros((3, 4, 4))
    found = count_at_thresholds("a", empty > 0, empty, fold="0", spacing_mm=(1, 1, 1))
    assert (found.lesions, found.found.sum(), found.false_positives.sum()) == (0, 0, 0)


def case(name: str, fold: str, lesions: int, *, low: tuple[int, int], high: tuple[int, int]) -> HeldOutLesions:
    """Found lesions and false positives below a threshold of 0.5, and from there on."""
    below = np.array([threshold < 0.5 for threshold in THRESHOLDS])
    return HeldOutLesions(
        name, fold, lesions, found=np.where(below, low[0], high[0]), false_positives=np.where(below, low[1], high[1])
    )


TIMID = [case("a", "0", 2, low=(2, 1), high=(1, 0)), case("b", "1", 2, low=(2, 3), high=(2, 0))]


def test_the_curve_adds_up_cases():
    found = froc("lesion", TIMID)
    first, last = found.points[0], found.points[-1]
    assert (first.threshold, first.sensitivity, first.false_positives_per_case) == (0.05, 1.0, 2.0)
    assert (first.precision, first.f1) == (4 / 8, pytest.approx(8 / 12))
    assert (last.sensitivity, last.false_positives_per_case, last.precision) == (0.75, 0.0, 1.0)
    # 0.75 within 1/8, 1/4, 1/2 and 1 false positives a case, 1 within 2, 4 and 8.
    assert found.score == pytest.approx((4 * 0.75 + 3 * 1) / 7)
    assert (found.cases, found.lesions) == (2, 4)


def test_each_fold_is_judged_where_the_others_are_best():
    found = froc("lesion", TIMID)
    # On case a alone the F1 is 4/5 below 0.5 and 2/3 above; on case b alone it is 4/7 and 1.
    assert found.chosen == {"0": 0.95, "1": 0.45}
    assert found.threshold == 0.95  # both together: 8/12 and 6/7
    # Case a at 0.95: 1 found, 0 spurious. Case b at 0.45: 2 found, 3 spurious.
    assert (found.honest.sensitivity, found.honest.false_positives_per_case) == (0.75, 1.5)
    assert found.honest.f1 < max(point.f1 for point in found.points)


def test_within_so_many_false_positives():
    assert froc("lesion", TIMID, most_false_positives=2.0).threshold == 0.45
    assert froc("lesion", TIMID, most_false_positives=1.9).threshold == 0.95
    noisy = [case("a", "0", 1, low=(1, 9), high=(1, 5)), case("b", "1", 1, low=(1, 9), high=(1, 5))]
    assert froc("lesion", noisy, most_false_positives=1.0).threshold == 0.95  # none stays within: the fewest


def test_without_lesions_or_folds_nothing_is_chosen():
    with pytest.raises(UsageError, match="no held-out case has a lesion of tumour"):
        froc("tumour", [case("a", "0", 0, low=(0, 1), high=(0, 0))])
    with pytest.raises(UsageError, match="only fold 0 has held-out cases"):
        froc("tumour", TIMID[:1])


def test_the_record_survives_being_written():
    found = froc("lesion", TIMID)
    assert Froc.parse(found.to_json(), file="") == found
    assert math.isinf(found.most_false_positives)
