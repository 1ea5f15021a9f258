import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.measures.surfaces import assd_mm, hd95_mm, surface_dice, surface_distances, surfel_areas
from autoseg.records.errors import DataError

UNIT = (1.0, 1.0, 1.0)


def cube(start: tuple[int, int, int], size: int = 10, shape: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + size) for a in start)] = True
    return mask


def ball(radius: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius**2


def test_areas_of_codes_that_geometry_knows():
    z, y, x = 3.0, 2.0, 1.0
    areas = surfel_areas((z, y, x))
    assert areas[0] == areas[255] == 0
    assert areas[0b00001111] == pytest.approx(y * x)  # the lower slice set: a face across z
    assert areas[0b00110011] == pytest.approx(z * x)
    assert areas[0b01010101] == pytest.approx(z * y)
    # One corner: the triangle through the middles of its three edges.
    a, b, c = (0, 0, x / 2), (0, y / 2, 0), (z / 2, 0, 0)
    triangle = np.linalg.norm(np.cross(np.subtract(b, a), np.subtract(c, a))) / 2
    assert areas[0b00000001] == pytest.approx(triangle)
    assert areas[0b10000001] == pytest.approx(2 * triangle)  # two opposite corners
    assert areas[0b00011001] == pytest.approx(areas[0b00010001] + triangle)  # two voxels and a third that is apart
    np.testing.assert_allclose(areas, areas[::-1])  # a mask and its complement share their surface
    assert (areas[1:-1] > 0).all()


def test_lengths_of_codes_in_the_plane():
    lengths = surfel_areas((3.0, 4.0))
    assert lengths[0b0001] == lengths[0b1110] == pytest.approx(2.5)
    assert lengths[0b0011] == pytest.approx(4.0)
    assert lengths[0b0101] == pytest.approx(3.0)
    assert lengths[0b1001] == pytest.approx(5.0)


def test_the_same_mask_has_no_distance():
    mask = cube((5, 5, 5))
    assert hd95_mm(mask, mask, spacing_mm=UNIT) == 0
    assert assd_mm(mask, mask, spacing_mm=UNIT) == 0
    assert surface_dice(mask, mask, spacing_mm=UNIT, tolerance_mm=0) == 1


@pytest.mark.parametrize(("axis", "expected"), [(0, 3 * 5.0), (1, 3 * 2.0), (2, 3 * 0.5)])
def test_a_shifted_cube_is_as_far_as_its_shift_in_mm(axis: int, expected: float):
    start = [5, 5, 5]
    start[axis] += 3
    distance = hd95_mm(cube((5, 5, 5)), cube(tuple(start)), spacing_mm=(5.0, 2.0, 0.5))
    # The face turned away is the whole shift off, and it holds more than a twentieth of the surface.
    assert distance == pytest.approx(expected)


def test_surface_dice_of_parallel_plates_counts_the_far_faces():
    # A plate of 2 mm and one of 6 mm on the same lower face: the upper face of the first lies 2 mm from the second's
    # lower face, the upper face of the second 4 mm from the first.
    truth, prediction = np.zeros((12, 60, 60), bool), np.zeros((12, 60, 60), bool)
    truth[2:4, 5:55, 5:55] = True
    prediction[2:8, 5:55, 5:55] = True
    assert surface_dice(truth, prediction, spacing_mm=UNIT, tolerance_mm=1.9) == pytest.approx(2 / 4, abs=0.05)
    assert surface_dice(truth, prediction, spacing_mm=UNIT, tolerance_mm=3.9) == pytest.approx(3 / 4, abs=0.05)
    assert surface_dice(truth, prediction, spacing_mm=UNIT, tolerance_mm=4) == 1
    assert hd95_mm(truth, prediction, spacing_mm=UNIT) == 4


@pytest.mark.parametrize("spacing", [UNIT, (3.0, 1.0, 1.0), (2.0, 0.7, 0.9)])
def test_balls_within_each_other_are_their_radii_apart(spacing: tuple[float, float, float]):
    shape = tuple(int(46 / s) for s in spacing)
    outer, inner = ball(20, spacing, shape), ball(14, spacing, shape)
    tolerance = max(spacing)  # a voxel is the finest that a mask can know
    assert hd95_mm(outer, inner, spacing_mm=spacing) == pytest.approx(6, abs=tolerance)
    assert assd_mm(outer, inner, spacing_mm=spacing) == pytest.approx(6, abs=0.6 * tolerance)
    assert surface_dice(outer, inner, spacing_mm=spacing, tolerance_mm=6 - tolerance) < 0.35
    assert surface_dice(outer, inner, spacing_mm=spacing, tolerance_mm=6 + tolerance) > 0.95


def test_the_area_of_a_ball_is_near_the_analytic_one():
    mask = ball(20, UNIT, (46, 46, 46))
    area = surface_distances(mask, mask, UNIT).truth_areas.sum()
    assert area == pytest.approx(4 * math.pi * 20**2, rel=0.10)  # facets of a voxel surface are a little long


def test_one_empty_side_is_infinitely_far_and_two_are_nothing():
    empty, full = np.zeros((4, 4, 4), bool), cube((1, 1, 1), size=2, shape=(4, 4, 4))
    for truth, prediction in ((full, empty), (empty, full)):
        assert hd95_mm(truth, prediction, spacing_mm=UNIT) == math.inf
        assert assd_mm(truth, prediction, spacing_mm=UNIT) == math.inf
        assert surface_dice(truth, prediction, spacing_mm=UNIT, tolerance_mm=2) == 0
    assert math.isnan(hd95_mm(empty, empty, spacing_mm=UNIT))
    assert math.isnan(assd_mm(empty, empty, spacing_mm=UNIT))
    assert math.isnan(surface_dice(empty, empty, spacing_mm=UNIT, tolerance_mm=2))


def test_one_slice_is_a_contour_in_the_plane():
    truth, prediction = np.zeros((1, 40, 40), bool), np.zeros((1, 40, 40), bool)
    truth[0, 5:25, 5:25] = True
    prediction[0, 5:25, 8:28] = True
    spacing = (100.0, 1.0, 2.0)  # the thickness of the slice plays no part
    assert hd95_mm(truth, prediction, spacing_mm=spacing) == 6
    contour = surface_distances(truth, truth, spacing).truth_areas.sum()
    # Four sides of 19 steps each, and four cut corners.
    assert contour == pytest.approx(2 * 19 * 1 + 2 * 19 * 2 + 4 * 0.5 * math.hypot(1, 2))
    # Left and right sides (20 of 60 mm) are off by 6 mm, and 6 mm at one end of the others.
    assert surface_dice(truth, prediction, spacing_mm=spacing, tolerance_mm=1) == pytest.approx(17 * 4 / 120, abs=0.05)


def test_one_slice_of_a_volume_keeps_both_faces():
    mask = np.zeros((5, 12, 12), bool)
    mask[2, 1:11, 1:11] = True
    assert surface_distances(mask, mask, UNIT).truth_areas.sum() > 2 * 9 * 9


def test_a_mask_at_the_edge_of_the_image_has_a_surface_there():
    mask = np.ones((6, 6, 6), bool)
    inside = np.pad(mask, 2)
    at_edge = surface_distances(mask, mask, UNIT).truth_areas.sum()
    assert at_edge == pytest.approx(surface_distances(inside, inside, UNIT).truth_areas.sum())


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2**27 - 1),
    st.integers(1, 2**27 - 1),
    st.tuples(*[st.sampled_from([0.3, 1.0, 2.5])] * 3),
    st.sampled_from([0.1, 3.0, 10.0]),
)
def test_distances_scale_with_the_voxel_and_do_not_know_which_side_is_which(
    first: int, second: int, spacing: tuple[float, float, float], factor: float
):
    truth, prediction = (np.array([n >> i & 1 for i in range(27)], bool).reshape(3, 3, 3) for n in (first, second))
    larger = tuple(factor * s for s in spacing)
    near = surface_distances(truth, prediction, spacing)
    far = surface_distances(truth, prediction, larger)
    back = surface_distances(prediction, truth, spacing)
    assert far.hausdorff_mm() == pytest.approx(factor * near.hausdorff_mm())
    assert far.average_mm() == pytest.approx(factor * near.average_mm())
    assert far.dice(factor * spacing[0]) == pytest.approx(near.dice(spacing[0]))
    assert back.hausdorff_mm() == pytest.approx(near.hausdorff_mm())
    assert 0 <= near.dice(1.0) <= 1


def test_distances_are_those_of_a_search_over_all_pairs():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((2, 5, 6, 7)) > 0.8
    spacing = (2.0, 1.0, 0.5)
    found = surface_distances(truth, prediction, spacing)

    def points(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1).astype(int)
        sums = sum(
            padded[z : padded.shape[0] - 1 + z, y : padded.shape[1] - 1 + y, x : padded.shape[2] - 1 + x]
            for z in (0, 1)
            for y in (0, 1)
            for x in (0, 1)
        )
        return np.argwhere((sums > 0) & (sums < 8)) * np.asarray(spacing)

    pairs = np.linalg.norm(points(truth)[:, None] - points(prediction)[None], axis=-1)
    np.testing.assert_allclose(found.truth_to_prediction_mm, np.sort(pairs.min(axis=1)))
    np.testing.assert_allclose(found.prediction_to_truth_mm, np.sort(pairs.min(axis=0)))


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(DataError, match="Bring both onto one grid"):
        hd95_mm(np.ones((4, 4, 4), bool), np.ones((1, 4, 4), bool), spacing_mm=UNIT)


def test_the_image_around_the_masks_changes_nothing():
    truth, prediction = cube((3, 3, 3), 5, (12, 12, 12)), cube((5, 3, 3), 5, (12, 12, 12))
    near = surface_distances(truth, prediction, UNIT)
    far = surface_distances(np.pad(truth, 20), np.pad(prediction, 20), UNIT)
    np.testing.assert_array_equal(near.truth_to_prediction_mm, far.truth_to_prediction_mm)
    np.testing.assert_array_equal(near.prediction_areas, far.prediction_areas)


def test_the_greatest_distance_is_that_of_one_voxel_far_away():
    truth, prediction = cube((3, 3, 3), 20), cube((3, 3, 3), 20)
    prediction[3, 3, 38] = True  # its far side lies at 39 mm, the side of the cube at 23
    found = surface_distances(truth, prediction, UNIT)
    assert found.greatest_mm() == 16
    assert found.hausdorff_mm() == 0
