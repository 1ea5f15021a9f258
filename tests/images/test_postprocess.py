import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images.postprocess import apply, apply_to_regions, drop_below, fill_holes, keep_largest, piece_volumes_mm3
from autoseg.records.choice import PostprocessingStep
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels, Region, Structure

LABELS = Labels(
    structures=(Structure(name="organ", value=1, original=1), Structure(name="tumour", value=2, original=2))
)
UNIT = (1.0, 1.0, 1.0)


def step(kind: str, structure: str = "organ", value: float = 0.0) -> PostprocessingStep:
    return PostprocessingStep(structure=structure, kind=kind, value=value)


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[None, None]


def test_the_largest_piece_stays_and_other_structures_are_left_alone():
    labels = row(1, 1, 0, 2, 0, 1, 1, 1, 0, 2)
    assert apply(labels, [step("keep_largest")], LABELS, UNIT).ravel().tolist() == [0, 0, 0, 2, 0, 1, 1, 1, 0, 2]
    assert labels.ravel().tolist() == [1, 1, 0, 2, 0, 1, 1, 1, 0, 2]  # the input is as it was


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert keep_largest(mask).sum() == 2


def test_of_two_equal_pieces_the_first_stays():
    assert keep_largest(row(1, 0, 1) > 0).ravel().tolist() == [True, False, False]


def test_the_most_pieces_that_fit_into_a_tiny_array_are_counted():
    mask = np.zeros((3, 3, 3), bool)
    mask[::2, ::2, ::2] = True
    assert piece_volumes_mm3(mask, spacing_mm=UNIT).tolist() == [1.0] * 8


def test_specks_below_a_volume_in_mm3_are_dropped():
    mask = row(1, 0, 1, 1, 0, 1, 1, 1) > 0
    spacing = (2.0, 1.0, 0.5)  # 1 mm3 a voxel
    assert piece_volumes_mm3(mask, spacing_mm=spacing).tolist() == [1, 2, 3]
    assert drop_below(mask, 2.0, spacing_mm=spacing).ravel().tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    cleaned = apply(row(1, 0, 1, 1, 0, 1, 1, 1), [step("drop_below", value=2.5)], LABELS, spacing)
    assert cleaned.ravel().tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_closed_hole_is_filled_but_what_lies_in_it_stays():
    labels = np.ones((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 0
    labels[2, 2, 1] = 2
    filled = apply(labels, [step("fill_holes")], LABELS, UNIT)
    assert filled[2, 2, 2] == 1
    assert filled[2, 2, 1] == 2


def test_an_image_of_one_slice_has_holes_in_the_plane():
    ring = np.ones((1, 3, 3), np.uint8)
    ring[0, 1, 1] = 0
    assert apply(ring, [step("fill_holes")], LABELS, UNIT)[0, 1, 1] == 1


def test_a_ring_in_one_slice_of_a_volume_is_open_above_and_below():
    ring = np.zeros((3, 3, 3), np.uint8)
    ring[1] = 1
    ring[1, 1, 1] = 0
    assert apply(ring, [step("fill_holes")], LABELS, UNIT)[1, 1, 1] == 0
    assert not fill_holes(ring[1:2] > 0, flat=False)[0, 1, 1]


def test_steps_apply_in_order_and_an_absent_structure_changes_nothing():
    labels = row(0, 1, 1, 0)
    steps = [step("keep_largest"), step("fill_holes", "tumour"), step("keep_largest", "tumour")]
    assert np.array_equal(apply(labels, steps, LABELS, UNIT), labels)


def test_what_leaves_a_region_becomes_the_region_around_it():
    regions = LABELS.model_copy(
        update={
            "regions": (
                Region(name="whole", values=(1, 2), original=1),
                Region(name="core", values=(2,), original=2),
            )
        }
    )
    cleaned = apply(row(1, 2, 2, 1, 2, 1, 0, 2), [step("keep_largest", "core")], regions, UNIT)
    assert cleaned.ravel().tolist() == [1, 2, 2, 1, 1, 1, 0, 1]
    cleaned = apply(cleaned, [step("keep_largest", "whole")], regions, UNIT)
    assert cleaned.ravel().tolist() == [1, 2, 2, 1, 1, 1, 0, 0]


def test_an_unknown_structure_is_named():
    with pytest.raises(DataError, match=r"names 'liver', which is no structure here. There are: organ, tumour"):
        apply(row(1), [step("keep_largest", "liver")], LABELS, UNIT)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_cleaning_twice_changes_nothing_more(seed: int):
    labels = (np.random.default_rng(seed).random((4, 5, 6)) > 0.7).astype(np.uint8)
    for steps in ([step("keep_largest")], [step("drop_below", value=3.0)], [step("fill_holes")]):
        once = apply(labels, steps, LABELS, UNIT)
        assert np.array_equal(apply(once, steps, LABELS, UNIT), once)


def test_a_region_paints_the_inside_value_of_what_it_writes():
    labels = Labels(
        structures=(Structure(name="edema", value=1, original=2), Structure(name="core", value=2, original=4)),
        regions=(Region(name="whole", values=(1, 2), original=2), Region(name="core", values=(2,), original=4)),
    )
    assert labels.region_values == (1, 2)
    ring = np.full((1, 3, 3), 2, np.uint8)
    ring[0, 1, 1] = 0
    assert apply(ring, [step("fill_holes", "core")], labels, UNIT)[0, 1, 1] == 2


def test_regions_that_overlap_are_cleaned_each_by_itself() -> None:
    parts = (Structure(name="edema", value=1, original=1), Structure(name="core", value=2, original=2))
    whole, core = Region(name="whole", values=(1, 2), original=1), Region(name="inner", values=(2,), original=2)
    labels = Labels(structures=parts, regions=(whole, core))
    bits = row(1, 3, 3, 0, 1, 0, 2)  # 1 whole, 2 inner, 3 both
    steps = [step("keep_largest", "whole"), step("drop_below", "inner", 2.0), step("keep_largest", "edema")]
    assert apply_to_regions(bits, steps, labels, UNIT).ravel().tolist() == [1, 3, 3, 0, 0, 0, 0]
    assert bits.ravel().tolist() == [1, 3, 3, 0, 1, 0, 2]
