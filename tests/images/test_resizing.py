from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize as skimage_resize

from autoseg.images.resizing import anisotropic_axis, resize, resize_labels


@pytest.mark.parametrize("order", [3, 1, 0])
@pytest.mark.parametrize("shape", [(7, 22, 9), (12, 11, 17), (1, 1, 1), (14, 5, 9)])
def test_resize_is_what_scikit_image_computes(order: int, shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).normal(size=(2, 7, 11, 9)).astype(np.float32)
    expected = [
        skimage_resize(c.astype(float), shape, order=order, mode="edge", anti_aliasing=False, clip=False) for c in array
    ]
    found = resize(array, shape, order=order)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=5e-6)


def test_outer_edges_stay() -> None:
    # Two voxels of 2 mm become four of 1 mm: centres at 1 and 3 mm are read at 0.5, 1.5, 2.5, 3.5 mm.
    array = np.array([0, 4], np.float32).reshape(1, 1, 1, 2)
    assert resize(array, (1, 1, 4), order=1).ravel().tolist() == [0, 1, 3, 4]
    assert resize(array, (1, 1, 4), order=0).ravel().tolist() == [0, 0, 4, 4]


def test_equal_shape_is_the_same_array() -> None:
    array = np.zeros((1, 2, 3, 4), np.float32)
    assert resize(array, (2, 3, 4), order=3) is array


@pytest.mark.parametrize("order", [3, 1])
def test_the_anisotropic_axis_is_nearest(order: int) -> None:
    array = np.zeros((1, 2, 4, 4), np.float32)
    array[0, 1] = np.random.default_rng(0).normal(size=(4, 4))
    found = resize(array, (4, 6, 6), order=order, anisotropic_axis=0)
    plane = resize(array[:, 1:], (1, 6, 6), order=order)[0, 0]
    assert np.abs(found[0, :2]).max() < 1e-6
    assert np.array_equal(found[0, 2], plane)
    assert np.array_equal(found[0, 3], plane)


@pytest.mark.parametrize(
    ("spacings", "axis"),
    [
        ([(3, 1, 1), (1, 1, 1)], None),  # exactly 3 is not beyond 3
        ([(3.1, 1, 1), (1, 1, 1)], 0),
        ([(1, 1, 1), (1, 5, 1)], 1),  # the target's
        ([(1, 1, 4), (5, 1, 1)], 2),  # the scan's own goes first
        ([(4, 4, 1), (1, 1, 1)], None),  # two coarse axes make none of their own
    ],
)
def test_anisotropic_axis(spacings: list, axis: int | None) -> None:
    assert anisotropic_axis(*spacings) == axis


def test_labels_by_eye() -> None:
    labels = np.array([0, 1, 1, 0, 2, 2, 2, 3], np.uint8).reshape(1, 1, 8)
    # Pairs (0 1) and (1 0) tie between background and structure: the structure stays. (2 3) ties: the lower value.
    assert resize_labels(labels, (1, 1, 4)).ravel().tolist() == [1, 1, 2, 2]
    assert resize_labels(labels, (1, 1, 16)).ravel().tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 2, 2, 3, 3]


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 99),
    st.sampled_from([None, 0, 2]),
)
def test_labels_are_the_largest_linear_share(old: tuple, new: tuple, seed: int, axis: int | None) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, size=old).astype(np.int16)
    shares = [resize((labels == v).astype(np.float32)[None], new, order=1, anisotropic_axis=axis)[0] for v in range(4)]
    found = resize_labels(labels, new, anisotropic_axis=axis)
    assert found.dtype == np.int16
    mine = np.take_along_axis(np.stack(shares), found[None].astype(int), 0)[0]
    assert np.all(mine >= np.max(shares, axis=0) - 1e-6)


def test_the_ignore_value_is_a_value_like_others() -> None:
    labels = np.full((4, 4, 4), 3, np.uint8)
    labels[:2] = 1
    assert np.unique(resize_labels(labels, (8, 8, 8))).tolist() == [1, 3]


def test_labels_there_and_back_keep_a_ball() -> None:
    z, y, x = np.ogrid[-12:12, -12:12, -12:12]
    ball = (z * z + y * y + x * x < 81).astype(np.uint8)
    back = resize_labels(resize_labels(ball, (18, 20, 22)), (24, 24, 24))
    assert 2 * (ball & back).sum() / (ball.sum() + back.sum()) > 0.97
