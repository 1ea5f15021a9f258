from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.fields import Field
from autoseg.images.home import home, home_probabilities, home_regions, paint_regions, probabilities_to_keep
from autoseg.images.orientation import reorient
from autoseg.images.regrid import plan_passage, to_network
from autoseg.images.resizing import resize
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Image, LabelMap, Passage
from tests.images.by_hand import configuration, grid, identity, oblique


def passage(original: Grid, crop: Box, **changes: object) -> Passage:
    return plan_passage(original, crop, configuration(**changes))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([labels == value for value in range(classes)]).astype(np.float32) * 10


def random_field(where: Passage, classes: int, seed: int, weight: float = 1.0) -> Field:
    shape = (classes, *where.network.shape)
    return Field(np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3, where, weight)


WHOLE = grid((9, 8, 7), direction=oblique(5, order=(2, 0, 1), flips=(True, False, True)), origin_mm=(1, 2, 3))
CROP = Box(start=(1, 0, 2), stop=(7, 6, 7))
FINE = passage(WHOLE, CROP)
COARSE = passage(WHOLE, CROP, spacing_mm=(2, 1.5, 1.7))


def test_one_field_is_the_argmax_of_the_resized_logits() -> None:
    field = random_field(COARSE, 4, 0)
    found = home([field], output="softmax")
    expected = resize(field.array, COARSE.crop.shape, order=1).argmax(axis=0)
    seen = reorient(found, COARSE.original, COARSE.oriented)
    assert found.shape == WHOLE.shape
    assert found.dtype == np.uint8
    assert np.mean(seen[COARSE.crop.slices()] == expected) > 0.99  # ties in the last bit may fall either way
    outside = np.ones(seen.shape, bool)
    outside[COARSE.crop.slices()] = False
    assert not seen[outside].any()


def test_labels_are_the_same_where_probabilities_are_kept_and_cannot_tell_two_classes_apart() -> None:
    logits = np.random.default_rng(1).choice([0, 1e-9, 1, 1 + 1e-7], size=(3, *FINE.network.shape)).astype(np.float32)
    field = Field(logits, FINE)
    kept, keep = probabilities_to_keep([field], output="softmax")
    assert np.array_equal(home([field], output="softmax", keep=keep), home([field], output="softmax"))
    assert np.array_equal(kept, home_probabilities([field], output="softmax"))


@settings(max_examples=25, deadline=None)
@given(
    st.permutations([0, 1, 2]).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.permutations([0, 1, 2]).map(tuple),
)
def test_there_and_back_gives_the_labels(order: tuple, flips: tuple, axis_order: tuple) -> None:
    where = grid((4, 5, 6), direction=oblique(-12, order=order, flips=flips))
    labels = np.random.default_rng(1).integers(0, 4, size=where.shape).astype(np.uint8)
    image = Image((labels > 0).astype(np.float32)[None], where)
    settled = configuration(axis_order=axis_order)
    _, _, seen, way = to_network(image, LabelMap(labels, where), settled, normalize=identity)
    assert seen is not None
    assert np.array_equal(home([Field(one_hot(seen, 4), way)], output="softmax"), labels)


def test_a_ball_survives_a_coarser_grid() -> None:
    z, y, x = np.ogrid[-12:12, -12:12, -12:12]
    ball = (z * z + y * y + x * x < 81).astype(np.uint8)
    where = grid(ball.shape, direction=oblique(0, order=(1, 2, 0), flips=(True, True, False)))
    image = Image(ball[None].astype(np.float32), where)
    _, _, seen, way = to_network(
        image, LabelMap(ball, where), configuration(spacing_mm=(2, 1.5, 1.3)), normalize=identity
    )
    assert seen is not None
    back = home([Field(one_hot(seen, 2), way)], output="softmax")
    assert 2 * (ball & back).sum() / (ball.sum() + back.sum()) > 0.95


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 20_000), st.sampled_from(["softmax", "sigmoid"]), st.integers(1, 2))
def test_slabs_do_not_change_the_result(slab_bytes: int, output: str, count: int) -> None:
    fields = [random_field(COARSE, 4, 0, 1.0), random_field(FINE, 4, 1, 2.0)][:count]
    values = (1, 2, 3, 4)
    whole = home(fields, output=output, region_values=values)
    assert np.array_equal(home(fields, output=output, region_values=values, slab_bytes=slab_bytes), whole)
    assert np.array_equal(
        home_probabilities(fields, output=output, slab_bytes=slab_bytes), home_probabilities(fields, output=output)
    )


def test_several_fields_are_averaged_as_probabilities() -> None:
    # One voxel: logits 0 / 2 give 0.12 / 0.88, logits 10 / 0 give 1 / 0; by logits class 0 wins by far, and so it does
    # by equal weights (0.56), but not when the first field counts nine times.
    single = passage(grid((1, 1, 1)), Box(start=(0, 0, 0), stop=(1, 1, 1)))
    first = np.array([0, 2], np.float32).reshape(2, 1, 1, 1)
    second = np.array([10, 0], np.float32).reshape(2, 1, 1, 1)
    equal = [Field(first, single), Field(second, single)]
    assert home_probabilities(equal, output="softmax").ravel() == pytest.approx([0.5596, 0.4404], abs=1e-3)
    assert home(equal, output="softmax").item() == 0
    assert home([Field(first, single, 9.0), Field(second, single)], output="softmax").item() == 1


def test_fields_with_other_axis_orders_and_spacings_agree() -> None:
    where = grid((6, 7, 8), (1, 1, 1), direction=oblique(0, order=(1, 0, 2), flips=(True, False, False)))
    labels = np.zeros(where.shape, np.uint8)
    labels[1:5, 2:6, 1:4], labels[2:4, 2:6, 4:7] = 1, 2
    image = Image((labels > 0).astype(np.float32)[None], where)
    fields = []
    for axis_order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        settled = configuration(axis_order=axis_order)
        _, _, seen, way = to_network(image, LabelMap(labels, where), settled, normalize=identity)
        assert seen is not None
        fields.append(Field(one_hot(seen, 3), way))
    assert np.array_equal(home(fields, output="softmax"), labels)


def test_outside_one_crop_that_field_says_background() -> None:
    line = grid((1, 1, 4))
    left = passage(line, Box(start=(0, 0, 0), stop=(1, 1, 2)))
    right = passage(line, Box(start=(0, 0, 1), stop=(1, 1, 3)))
    sure = np.full((2, 1, 1, 2), -20, np.float32)
    sure[1] = 20
    found = home_probabilities([Field(sure, left), Field(sure, right, 3.0)], output="softmax")
    assert found[1].ravel() == pytest.approx([0.25, 1, 0.75, 0])
    assert found.sum(axis=0).ravel() == pytest.approx([1, 1, 1, 1])


def test_regions_are_painted_in_order() -> None:
    line = grid((1, 1, 4))
    way = passage(line, Box(start=(0, 0, 0), stop=(1, 1, 4)))
    logits = np.array([[-1, 1, 1, 1], [-1, -1, 1, 300]], np.float32).reshape(2, 1, 1, 4)
    assert home([Field(logits, way)], output="sigmoid", region_values=(7, 3)).ravel().tolist() == [0, 7, 3, 3]
    assert home_probabilities([Field(logits, way)], output="sigmoid")[1, 0, 0, 3] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_refused(value: float) -> None:
    field = random_field(FINE, 3, 0)
    field.array[1, 2, 2, 2] = value
    with pytest.raises(DataError, match="output for class 1 is not finite"):
        home([field], output="softmax")


def test_many_classes_become_int16() -> None:
    way = passage(grid((1, 1, 2)), Box(start=(0, 0, 0), stop=(1, 1, 2)))
    logits = np.zeros((301, 1, 1, 2), np.float32)
    logits[300] = 1
    found = home([Field(logits, way)], output="softmax")
    assert found.dtype == np.int16
    assert found.tolist() == [[[300, 300]]]


def test_coarse_slices_come_home_unmixed() -> None:
    where = grid((2, 4, 4), (8, 1, 1))
    way = passage(where, Box(start=(0, 0, 0), stop=(2, 4, 4)), spacing_mm=(4, 1, 1))
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[2:] = 1
    assert home([Field(one_hot(labels, 2), way)], output="softmax")[:, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_memory_stays_far_below_every_class_at_full_resolution(count: int) -> None:
    where = grid((64, 64, 64), (0.25, 0.25, 0.25))
    way = passage(where, Box(start=(0, 0, 0), stop=(64, 64, 64)))
    fields = [random_field(way, 40, seed) for seed in range(count)]
    full = 40 * 64**3 * 4
    tracemalloc.start()
    home(fields, output="softmax", slab_bytes=2**21)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < full / 8


@pytest.mark.parametrize("count", [2, 9])
def test_regions_keep_their_overlap_and_paint_the_same_labels(count: int) -> None:
    fields = [random_field(FINE, count, 3), random_field(COARSE, count, 4, weight=2.0)]
    values = tuple(range(1, count + 1))
    regions = home_regions(fields)
    assert regions.dtype == (np.uint8 if count <= 8 else np.uint16)
    probabilities = home_probabilities(fields, output="sigmoid")
    for place in range(count):
        assert np.array_equal(regions >> place & 1, probabilities[place] > 0.5)
    assert (regions & 3 == 3).any(), "some voxels belong to both"
    assert np.array_equal(paint_regions(regions, values), home(fields, output="sigmoid", region_values=values))
    assert np.array_equal(home_regions(fields, slab_bytes=1000), regions)
