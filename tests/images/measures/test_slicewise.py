import math

import numpy as np
import pytest

from autoseg.images.measures.slicewise import added_path_mm, gi_tract_score, slice_axis, slice_dice
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid


def square(z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((6, 12, 12), bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((3.0, 1.0, 1.0), 0), ((1.0, 3.0, 1.0), 1), ((1.0, 1.0, 1.5), 2), ((1.0, 1.0, 1.0), 0), ((1.0, 1.0, 1.005), 0)],
)
def test_slices_lie_across_the_coarsest_axis(spacing: tuple[float, float, float], axis: int):
    assert slice_axis(Grid(shape=(5, 5, 5), spacing_mm=spacing)) == axis


def test_slices_of_equal_voxels_are_axial_however_the_scan_is_stored():
    sagittal = ((0, 0, 1), (1, 0, 0), (0, 1, 0))  # x runs to the back, y to the head, z to the left
    assert slice_axis(Grid(shape=(5, 5, 5), spacing_mm=(1, 1, 1), direction=sagittal)) == 1
    assert slice_axis(Grid(shape=(1, 5, 5), spacing_mm=(1, 1, 9), direction=sagittal)) == 0


def test_a_slice_too_many_and_one_too_few():
    truth, prediction = square((1, 4), (2, 6), (2, 6)), square((2, 5), (2, 6), (2, 6))
    assert slice_dice(truth, prediction, axis=0) == (0 + 1 + 1 + 0) / 4
    assert slice_dice(truth, prediction, axis=1) == pytest.approx(2 / 3)


def test_the_path_is_counted_in_the_plane():
    truth, nothing = square((1, 3), (2, 6), (2, 6)), np.zeros((6, 12, 12), bool)
    assert added_path_mm(truth, nothing, axis=0, spacing_mm=(5, 1, 1)) == 2 * 12
    assert added_path_mm(truth, nothing, axis=0, spacing_mm=(5, 2, 8)) == 2 * 12 * 4
    assert added_path_mm(nothing, truth, axis=0, spacing_mm=(5, 1, 1)) == 0
    assert added_path_mm(truth, truth, axis=0, spacing_mm=(5, 1, 1)) == 0
    # Across y there are 4 slices of 2 x 4 pixels, all of them contour.
    assert added_path_mm(truth, nothing, axis=1, spacing_mm=(1, 5, 1)) == 4 * 8


def test_a_contour_at_the_edge_of_the_image_is_drawn_too():
    whole = np.ones((1, 4, 4), bool)
    assert added_path_mm(whole, np.zeros_like(whole), axis=0, spacing_mm=(1, 1, 1)) == 12


def test_the_challenge_counts_voxels_whatever_their_size():
    truth, prediction = square((1, 3), (2, 6), (2, 6)), square((1, 3), (2, 6), (2, 9))
    dice, distance = 2 * 16 / (16 + 28), 3 / math.sqrt(36 + 144 + 144)
    assert gi_tract_score(truth, prediction, axis=0, shape=(6, 12, 12)) == pytest.approx(
        0.4 * dice + 0.6 * (1 - distance)
    )
    assert gi_tract_score(prediction, truth, axis=0, shape=(6, 12, 12)) == pytest.approx(
        0.4 * dice + 0.6 * (1 - distance)
    )


def test_one_empty_side_fails_and_two_are_nothing():
    full, empty = square((1, 3), (2, 6), (2, 6)), np.zeros((6, 12, 12), bool)
    for pair in ((full, empty), (empty, full)):
        assert slice_dice(*pair, axis=0) == 0
        assert gi_tract_score(*pair, axis=0, shape=(6, 12, 12)) == 0
    assert math.isnan(slice_dice(empty, empty, axis=0))
    assert math.isnan(gi_tract_score(empty, empty, axis=0, shape=(6, 12, 12)))
    assert math.isnan(added_path_mm(empty, empty, axis=0, spacing_mm=(1, 1, 1)))


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(DataError, match="Bring both onto one grid"):
        slice_dice(np.ones((4, 4, 4), bool), np.ones((1, 4, 4), bool), axis=0)
