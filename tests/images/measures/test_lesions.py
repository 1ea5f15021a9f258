"""Cubes of 8 voxels in 10 x 10 x 10: every answer can be counted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.measures.lesions import Detection, Lesions, equivalent_diameters_mm, lesions
from autoseg.records.errors import DataError

Corner = tuple[int, int, int]
FIRST, SECOND, THIRD = (1, 1, 1), (1, 1, 5), (6, 6, 6)


def cubes(*corners: Corner) -> np.ndarray:
    """Cubes of 2 x 2 x 2 voxels at these corners."""
    mask = np.zeros((10, 10, 10), bool)
    for z, y, x in corners:
        mask[z : z + 2, y : y + 2, x : x + 2] = True
    return mask


def compared(truth: np.ndarray, prediction: np.ndarray, *, mm: float = 1.0, least: float = 0.0) -> Lesions:
    return lesions(truth, prediction, spacing_mm=(mm, mm, mm), least_overlap_fraction=least)


def test_everything_found_and_nothing_else():
    figures = compared(cubes(FIRST, SECOND), cubes(FIRST, SECOND))
    assert figures.every == Detection(truths=2, found=2, false_positives=0)
    assert (figures.every.sensitivity, figures.every.precision, figures.every.f1) == (1, 1, 1)
    assert (figures.lesion_dice, figures.panoptic_quality, figures.predicted) == (1, 1, 2)


def test_one_missed_and_one_spurious():
    figures = compared(cubes(FIRST, SECOND), cubes(FIRST, THIRD))
    assert (figures.every.found, figures.every.missed, figures.every.false_positives) == (1, 1, 1)
    assert (figures.every.sensitivity, figures.every.precision, figures.every.f1) == (0.5, 0.5, 0.5)
    assert figures.lesion_dice == pytest.approx(1 / 3)  # 1 found, 0 missed, 0 spurious
    assert figures.segmentation_quality == 1
    assert figures.recognition_quality == 0.5  # 1 / (1 + 0.5 + 0.5)


def test_sensitivity_and_precision_are_told_apart():
    missed = compared(cubes(FIRST, SECOND), cubes(FIRST)).every
    assert (missed.sensitivity, missed.precision) == (0.5, 1)
    spurious = compared(cubes(FIRST), cubes(FIRST, SECOND)).every
    assert (spurious.sensitivity, spurious.precision) == (1, 0.5)
    assert missed.f1 == spurious.f1 == pytest.approx(2 / 3)


def test_two_lesions_merged_by_one_piece_are_both_found():
    bar = np.zeros((10, 10, 10), bool)
    bar[1:3, 1:3, 1:7] = True  # 24 voxels over both cubes
    figures = compared(cubes(FIRST, SECOND), bar)
    assert figures.every == Detection(truths=2, found=2, false_positives=0)
    assert figures.lesion_dice == pytest.approx(2 * 8 / (8 + 24))
    assert figures.segmentation_quality == pytest.approx(8 / 24)  # one of the two has the piece
    assert figures.recognition_quality == pytest.approx(1 / 1.5)
    assert figures.panoptic_quality == pytest.approx(2 / 9)


def test_one_lesion_in_two_pieces_is_found_once():
    bar = np.zeros((10, 10, 10), bool)
    bar[1:3, 1:3, 1:7] = True
    figures = compared(bar, cubes(FIRST, SECOND))
    assert figures.every == Detection(truths=1, found=1, false_positives=0)
    assert figures.lesion_dice == pytest.approx(2 * 16 / (24 + 16))  # both pieces together
    assert figures.panoptic_quality == pytest.approx(2 / 9)


def test_cubes_that_touch_at_a_corner_are_one_lesion():
    assert compared(cubes((1, 1, 1), (3, 3, 3)), cubes((1, 1, 1))).every.truths == 1
    assert compared(cubes((1, 1, 1), (4, 3, 3)), cubes((1, 1, 1))).every.truths == 2


def test_the_pair_with_the_greater_overlap_is_taken():
    truth, prediction = cubes((1, 1, 1)), cubes((1, 1, 1))
    truth[1:3, 1:3, 1:6] = True  # 20 voxels
    prediction[1:3, 1:3, 2] = False
    prediction[1:3, 1:3, 3:6] = True  # pieces of 4 and 12 voxels in one lesion
    figures = compared(truth, prediction)
    assert figures.segmentation_quality == pytest.approx(12 / 20)
    assert figures.recognition_quality == pytest.approx(1 / 1.5)


def test_how_much_of_a_lesion_must_be_predicted():
    truth, prediction = cubes(FIRST), np.zeros((10, 10, 10), bool)
    prediction[1, 1, 0:3] = True  # 3 voxels, 2 of the lesion's 8
    assert compared(truth, prediction).every.found == 1
    assert compared(truth, prediction, least=0.25).every.found == 1
    strict = compared(truth, prediction, least=0.26)
    assert strict.every == Detection(truths=1, found=0, false_positives=0)  # touched, so not spurious
    assert (strict.every.sensitivity, strict.every.precision, strict.every.f1) == (0, 0, 0)
    assert strict.lesion_dice == 0


def test_small_and_large_by_the_ball_of_equal_volume():
    assert equivalent_diameters_mm(np.array([8]), spacing_mm=(1, 1, 1), flat=False)[0] == pytest.approx(
        2.4814, abs=1e-4
    )
    assert equivalent_diameters_mm(np.array([8]), spacing_mm=(9, 1, 1), flat=True)[0] == pytest.approx(3.1915, abs=1e-4)
    truth, prediction = cubes(FIRST, THIRD), cubes(FIRST, (1, 1, 7))
    truth[6:10, 6:10, 6:10] = True  # 64 voxels: a ball of 4.96 mm at 1 mm, 14.9 mm at 3 mm; the cubes' 7.4 mm at 3 mm
    figures = compared(truth, prediction, mm=3.0)
    assert figures.small == Detection(truths=1, found=1, false_positives=1)
    assert figures.large == Detection(truths=1, found=0, false_positives=0)
    fine = compared(truth, prediction)
    assert fine.small == fine.every
    assert math.isnan(fine.large.sensitivity)
    coarse = compared(truth, prediction, mm=9.0)  # the cubes are balls of 22 mm, the spurious one too
    assert coarse.small == Detection(truths=0, found=0, false_positives=0)
    assert coarse.large == Detection(truths=2, found=1, false_positives=1)


def test_nothing_to_score_is_nan_and_one_empty_side_is_0():
    empty, full = cubes(), cubes(FIRST)
    nothing = compared(empty, empty)
    values = (nothing.every.sensitivity, nothing.every.precision, nothing.every.f1)
    assert all(math.isnan(value) for value in (*values, nothing.lesion_dice, nothing.panoptic_quality))
    for figures in (compared(full, empty), compared(empty, full)):
        assert (figures.every.sensitivity, figures.every.precision, figures.every.f1) == (0, 0, 0)
        assert (figures.lesion_dice, figures.segmentation_quality, figures.recognition_quality) == (0, 0, 0)
    assert compared(empty, full).every.false_positives == 1


def test_shapes_that_numpy_would_broadcast_are_refused():
    with pytest.raises(DataError, match=r"shape \(1, 4, 4\) but the truth has \(4, 4, 4\)"):
        compared(np.ones((4, 4, 4), bool), np.ones((1, 4, 4), bool))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2**32 - 1))
def test_what_is_missed_from_one_side_is_spurious_from_the_other(seed: int):
    first, second = np.random.default_rng(seed).random((2, 4, 10, 10)) < 0.08
    there, back = compared(first, second), compared(second, first)
    assert (there.every.missed, there.predicted) == (back.every.false_positives, back.every.truths)
    assert 0 <= there.panoptic_quality <= there.recognition_quality <= 1
    assert 0 <= there.lesion_dice <= 1
    assert compared(first, first).panoptic_quality == 1
