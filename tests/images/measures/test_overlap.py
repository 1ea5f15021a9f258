import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.measures.overlap import overlap
from autoseg.records.errors import DataError


def test_two_rows_that_share_two_of_four_and_three_voxels():
    truth, prediction = np.zeros((1, 1, 10), bool), np.zeros((1, 1, 10), bool)
    truth[..., 0:4] = True  # 4 voxels
    prediction[..., 2:5] = True  # 3 voxels, 2 of them shared
    figures = overlap(truth, prediction)
    assert figures.dice == pytest.approx(4 / 7)
    assert figures.iou == pytest.approx(2 / 5)
    assert figures.precision == pytest.approx(2 / 3)
    assert figures.recall == pytest.approx(2 / 4)


def test_nothing_to_score_is_nan_and_one_empty_side_is_0():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    for value in vars(overlap(empty, empty)).values():
        assert math.isnan(value)
    for figures in (overlap(full, empty), overlap(empty, full)):
        assert vars(figures) == {"dice": 0.0, "iou": 0.0, "precision": 0.0, "recall": 0.0}


def test_shapes_that_numpy_would_broadcast_are_refused():
    with pytest.raises(DataError, match=r"shape \(1, 4, 4\) but the truth has \(4, 4, 4\)"):
        overlap(np.ones((4, 4, 4), bool), np.ones((1, 4, 4), bool))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2**27 - 1), st.integers(1, 2**27 - 1))
def test_dice_follows_from_iou_and_is_the_harmonic_mean(first: int, second: int):
    truth, prediction = (np.array([n >> i & 1 for i in range(27)], bool).reshape(3, 3, 3) for n in (first, second))
    figures = overlap(truth, prediction)
    assert figures.dice == pytest.approx(2 * figures.iou / (1 + figures.iou))
    if figures.dice:
        assert figures.dice == pytest.approx(2 / (1 / figures.precision + 1 / figures.recall))
