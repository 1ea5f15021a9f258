from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.orientation import reorient
from autoseg.images.regrid import nonzero_box, resample, to_network
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Image, LabelMap
from tests.images.by_hand import configuration, grid, identity, oblique


def ramp(where: Grid) -> np.ndarray:
    """Patient coordinate x + 10 y + 100 z at every voxel."""
    index = np.indices(where.shape).reshape(3, -1)
    xyz = where.affine() @ np.vstack([index, np.ones(index.shape[1])])
    return (xyz[0] + 10 * xyz[1] + 100 * xyz[2]).reshape(where.shape).astype(np.float32)


def test_nonzero_box() -> None:
    image = np.zeros((2, 4, 5, 6), np.float32)
    assert nonzero_box(image) == Box(start=(0, 0, 0), stop=(4, 5, 6))  # nothing there: everything
    image[0, 1, 2, 3] = 1
    image[1, 2, 2, 4] = -1
    assert nonzero_box(image) == Box(start=(1, 2, 3), stop=(3, 3, 5))


@settings(max_examples=25, deadline=None)
@given(
    st.permutations([0, 1, 2]).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.permutations([0, 1, 2]).map(tuple),
)
def test_without_resampling_every_voxel_is_an_exact_copy(order: tuple, flips: tuple, axis_order: tuple) -> None:
    where = grid((4, 5, 6), direction=oblique(10, order=order, flips=flips), origin_mm=(3, 4, 5))
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    array[:, 0] = 0
    labels = rng.integers(0, 5, size=(4, 5, 6)).astype(np.uint8)
    image, valid, seen, passage = to_network(
        Image(array, where), LabelMap(labels, where), configuration(axis_order=axis_order), normalize=identity
    )
    assert valid is None
    assert passage.crop.shape == passage.network.shape == image.shape[1:]
    cut = passage.crop.slices()
    assert np.array_equal(image, reorient(array, where, passage.oriented)[(slice(None), *cut)])
    assert np.array_equal(seen, reorient(labels, where, passage.oriented)[cut])
    assert passage.network.spacing_mm == (1, 1, 1)


def test_axis_order_names_the_source_of_each_axis() -> None:
    where = grid((2, 3, 4), (1, 1, 5))
    image, _, _, passage = to_network(
        Image(np.ones((1, 2, 3, 4), np.float32), where),
        None,
        configuration(axis_order=(2, 0, 1), spacing_mm=(None, 1, 1)),
        normalize=identity,
    )
    assert image.shape == (1, 4, 2, 3)
    assert passage.oriented.spacing_mm == (5, 1, 1)


def test_the_network_grid_has_the_outer_edges_of_the_crop() -> None:
    where = grid((4, 10, 10), (3, 1, 1), origin_mm=(100, 200, 300))
    array = np.zeros((1, 4, 10, 10), np.float32)
    array[0, :, 2:8, 2:8] = ramp(where)[:, 2:8, 2:8]
    image, _, _, passage = to_network(
        Image(array, where), None, configuration(spacing_mm=(3, 2, 2)), normalize=identity
    )
    assert image.shape == (1, 4, 3, 3)
    assert passage.network.origin_mm == (102.5, 202.5, 300)  # the crop's edge at 101.5, and half of 2 mm
    assert passage.network.spacing_mm == (3, 2, 2)
    # Away from the edge a spline follows a straight line: the voxel in the middle has its coordinate's value.
    assert image[0, 1, 1, 1] == pytest.approx(ramp(passage.network)[1, 1, 1], rel=1e-5)


def test_spacing_none_keeps_the_axis() -> None:
    where = grid((5, 8, 8), (7, 1, 1))
    image, *_ = to_network(
        Image(np.ones((1, 5, 8, 8), np.float32), where),
        None,
        configuration(spacing_mm=(None, 2, 2)),
        normalize=identity,
    )
    assert image.shape == (1, 5, 4, 4)


def test_coarse_slices_are_not_mixed() -> None:
    array = np.zeros((1, 2, 6, 6), np.float32)
    array[0, 0], array[0, 1] = 1, 5
    labels = np.zeros((2, 6, 6), np.uint8)
    labels[1] = 2
    where = grid((2, 6, 6), (4, 1, 1))
    image, _, seen, _ = to_network(Image(array, where), LabelMap(labels, where), configuration(), normalize=identity)
    assert image.shape == (1, 8, 6, 6)
    assert image[0, :, 0, 0].tolist() == [1] * 4 + [5] * 4
    assert seen is not None
    assert seen[:, 0, 0].tolist() == [0] * 4 + [2] * 4


def test_normalising_comes_between_crop_and_resampling() -> None:
    seen = []

    def normalize(array: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        seen.append((array.shape, None if valid is None else valid.shape))
        return array * 2

    array = np.zeros((1, 8, 8, 8), np.float32)
    array[0, 2:6, 2:6, 2:6] = 3
    valid = np.ones(array.shape, bool)
    valid[0, 2] = False
    image, kept, _, _ = to_network(
        Image(array, grid((8, 8, 8)), valid), None, configuration(spacing_mm=(2, 2, 2)), normalize=normalize
    )
    assert seen == [((1, 4, 4, 4), (1, 4, 4, 4))]
    assert np.allclose(image, 6)
    assert kept is not None
    assert kept.dtype == bool
    assert kept.shape == image.shape


def test_a_thin_scan_keeps_one_voxel() -> None:
    where = grid((1, 4, 4), (0.1, 1, 1))
    image, *_ = to_network(Image(np.ones((1, 1, 4, 4), np.float32), where), None, configuration(), normalize=identity)
    assert image.shape == (1, 1, 4, 4)


def test_resample_finds_patient_coordinates_on_an_oblique_grid() -> None:
    source = grid((12, 24, 24), (2, 1, 1), origin_mm=(-12, -12, -12))
    target = grid((4, 5, 6), origin_mm=(-2, -2, -2), direction=oblique(20, order=(1, 0, 2), flips=(True, False, False)))
    found, valid = resample(ramp(source), source, target, order=1)
    assert valid.all()
    assert np.allclose(found, ramp(target), atol=1e-2)


def test_resample_marks_what_lies_outside() -> None:
    source, target = grid((1, 1, 4)), grid((1, 1, 6), origin_mm=(-1, 0, 0))
    array = np.array([[[[1, 2, 3, 4]]]], np.uint8)
    found, valid = resample(array, source, target, order=0, fill=9)
    assert found.dtype == np.uint8
    assert found.ravel().tolist() == [9, 1, 2, 3, 4, 9]
    assert valid.ravel().tolist() == [False, True, True, True, True, False]
