"""Contours and masks: the centre rule, holes, pieces, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.draw import disk

from autoseg.images.dicom.outlines import outlines
from autoseg.images.dicom.polygons import fill, rasterise


def box(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (low, high), (high, high), (high, low)])


def test_a_centre_inside_counts_and_one_outside_does_not() -> None:
    mask, _ = fill([box(0.6, 3.4)], (6, 6))
    expected = np.zeros((6, 6), bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_centre_on_the_line_counts_of_hole_and_of_body() -> None:
    """As OpenCV draws a frame two pixels wide: both lines run through centres of the frame itself."""
    mask, _ = fill([box(1, 8), box(2, 7)], (10, 10))
    expected = np.zeros((10, 10), bool)
    expected[1:9, 1:9] = True
    expected[3:7, 3:7] = False
    np.testing.assert_array_equal(mask, expected)


def test_holes_and_islands_in_them() -> None:
    mask, crossing = fill([box(0.5, 12.5), box(2.5, 10.5), box(4.5, 8.5)], (14, 14))
    assert crossing == 0
    assert mask[1, 1]
    assert not mask[3, 3]
    assert mask[6, 6]
    assert mask.sum() == 12**2 - 8**2 + 4**2


def test_contours_that_cross_are_united_and_equal_ones_count_once() -> None:
    mask, crossing = fill([box(0.5, 5.5), box(3.5, 9.5)], (12, 12))
    assert crossing == 1
    assert mask.sum() == 25 + 36 - 4
    again, _ = fill([box(0.5, 5.5), np.roll(box(0.5, 5.5), 2, axis=0)], (12, 12))
    assert again.sum() == 25


def test_a_keyhole_is_a_hole() -> None:
    """One line that runs inwards, around, and back, as planning systems write holes."""
    outer = [(0.5, 0.5), (0.5, 9.5), (9.5, 9.5), (9.5, 0.5), (0.5, 0.5)]
    inner = [(3.5, 3.5), (6.5, 3.5), (6.5, 6.5), (3.5, 6.5), (3.5, 3.5)]
    mask, _ = fill([np.array(outer + inner)], (11, 11))
    assert mask.sum() == 81 - 9


def test_what_sticks_out_of_the_picture_is_cut() -> None:
    inside, _ = rasterise(box(-3.5, 20.5), (4, 5))
    assert inside.all()
    inside, _ = rasterise(box(-9.0, -2.0), (4, 5))
    assert not inside.any()


def test_the_area_of_a_disk_is_unbiased() -> None:
    """The polygon of a circle anywhere between voxels covers its area in voxels, half a pixel neither lost nor won."""
    generator = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    areas = []
    for y, x in generator.uniform(14, 16, (60, 2)):
        mask, _ = fill([np.stack([y + 8.3 * np.sin(angle), x + 8.3 * np.cos(angle)], axis=1)], (32, 32))
        areas.append(mask.sum())
    assert np.mean(areas) == pytest.approx(np.pi * 8.3**2, rel=0.004)


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_comes_back_as_it_was(mask: np.ndarray) -> None:
    filled, crossing = fill(outlines(mask), (mask.shape[0], mask.shape[1]))
    np.testing.assert_array_equal(filled, mask)
    assert crossing == 0


def test_outlines_keep_area_and_drop_straight_points() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 3:17] = True
    (line,) = outlines(mask)
    assert len(line) == 8  # four sides and four cut corners
    y, x = line.T
    area = abs(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1))) / 2
    assert area == pytest.approx(10 * 14, rel=0.01)
    assert line.mean(axis=0) == pytest.approx((9.5, 9.5))


def test_pieces_and_holes_are_lines_of_their_own() -> None:
    mask = np.zeros((30, 30), bool)
    mask[disk((14, 14), 9)] = True
    mask[disk((14, 14), 4)] = False
    mask[1:3, 1:3] = True
    assert len(outlines(mask)) == 3
    assert outlines(np.zeros((4, 4), bool)) == []
