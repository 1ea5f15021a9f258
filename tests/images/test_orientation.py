from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.orientation import orient, orient_grid, reorient
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from tests.images.by_hand import grid, oblique

ANY_DIRECTION = st.builds(
    oblique,
    st.floats(-40, 40),
    order=st.permutations([0, 1, 2]).map(tuple),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


def place(where: Grid, index: tuple[int, ...]) -> np.ndarray:
    return (where.affine() @ [*index, 1])[:3]


def test_ras_scan_is_flipped_to_lps() -> None:
    # RAS: x runs to the right (-x in LPS), y to the front (-y), z up.
    ras = grid((1, 2, 3), (3, 2, 1), origin_mm=(10, 20, 30), direction=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    array = np.arange(6).reshape(1, 2, 3)
    moved, lps = orient(array, ras)
    assert moved.tolist() == [[[5, 4, 3], [2, 1, 0]]]
    assert lps.direction == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert lps.origin_mm == (8, 18, 30)  # 2 steps of 1 mm to the right of 10, 1 step of 2 mm to the front of 20


def test_sagittal_scan_gets_axial_axes() -> None:
    # Array axes (z, y, x) run to the left, upwards and backwards.
    sagittal = grid((2, 3, 4), (3, 1, 0.5), direction=((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    moved, axial = orient(np.zeros((2, 3, 4)), sagittal)
    assert moved.shape == axial.shape == (3, 4, 2)
    assert axial.spacing_mm == (1, 0.5, 3)


def test_canonical_scan_is_returned_as_it_is() -> None:
    array = np.zeros((1, 2, 2, 2), np.float32)
    moved, where = orient(array, grid((2, 2, 2)))
    assert moved is array
    assert where == grid((2, 2, 2))


@settings(max_examples=30, deadline=None)
@given(ANY_DIRECTION)
def test_voxels_stay_where_they_are_in_the_patient(direction: tuple) -> None:
    source = grid((2, 3, 4), (3, 2, 1), origin_mm=(5, -7, 11), direction=direction)
    array = np.arange(24).reshape(2, 3, 4)
    moved, oriented = orient(array, source)
    for value in (0, 5, 17, 23):
        old = np.unravel_index(value, array.shape)
        new = tuple(np.argwhere(moved == value)[0])
        assert np.allclose(place(source, old), place(oriented, new))
    assert oriented == orient_grid(source)
    # Within 45 degrees of the patient's axes, and a second time nothing moves.
    assert all(oriented.direction[axis][axis] > 0.7 for axis in range(3))
    assert orient(moved, oriented)[0] is moved


@settings(max_examples=30, deadline=None)
@given(ANY_DIRECTION)
def test_reorient_goes_back(direction: tuple) -> None:
    source = grid((2, 3, 4), (3, 2, 1), origin_mm=(5, -7, 11), direction=direction)
    array = np.arange(48).reshape(2, 2, 3, 4)
    moved, oriented = orient(array, source)
    assert np.array_equal(reorient(moved, oriented, source), array)


def test_reorient_refuses_another_grid() -> None:
    with pytest.raises(DataError, match=r"differ by more than the order of their axes: shape \(2, 2, 3\)"):
        reorient(np.zeros((2, 2, 2)), grid((2, 2, 2)), grid((2, 2, 3)))
