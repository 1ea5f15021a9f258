from dataclasses import replace

import numpy as np
import pytest

from autoseg.images.context import with_neighbours
from autoseg.records.errors import DataError
from autoseg.records.preset import Augmentation
from autoseg.stages.training import sampling
from autoseg.stages.training.sampling import Rules
from tests.stages.training.records import make_case, make_cases

STILL = Augmentation(**{name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")})
RULES = Rules(
    seed=1,
    batch_size=3,
    patch_shape=(4, 6, 6),
    foreground_fraction=0.34,
    structures=2,
    mirror_axes=(0, 1, 2),
    augmentation=STILL,
)


@pytest.mark.parametrize(
    ("batch", "fraction", "expected"), [(2, 0.34, 1), (1, 0.34, 1), (9, 0.34, 3), (4, 1.0, 4), (4, 0.0, 0)]
)
def test_a_third_of_the_batch_at_least_one_is_foreground(batch, fraction, expected):
    assert sampling.foreground_samples(batch, fraction) == expected


def test_a_batch_depends_on_seed_and_step_alone():
    cases = make_cases()
    assert sampling.choose(RULES, cases, 7) == sampling.choose(RULES, cases, 7)
    assert sampling.choose(RULES, cases, 7) != sampling.choose(RULES, cases, 8)
    assert sampling.choose(RULES, cases, 7) != sampling.choose(replace(RULES, seed=2), cases, 7)


def test_a_larger_batch_keeps_the_samples_of_a_smaller_one_where_both_are_random():
    cases = make_cases()
    few = sampling.choose(replace(RULES, foreground_fraction=0), cases, 3)
    many = sampling.choose(replace(RULES, foreground_fraction=0, batch_size=5), cases, 3)
    assert many[:3] == few


def test_the_last_samples_are_centred_on_structures_drawn_evenly():
    small = make_case("one")
    rare = replace(small, positions={1: small.positions[1], 2: small.positions[2][:1]})
    found = []
    for step in range(60):
        corner = sampling.choose(RULES, [rare], step)[-1].corner
        found.append(rare.labels[tuple(c + p // 2 for c, p in zip(corner, RULES.patch_shape))])
    assert set(found) == {1, 2}
    assert 15 < found.count(2) < 45  # one voxel of 126, yet as often as the other


def test_random_patches_lie_inside_the_image_and_reach_both_ends():
    case = make_case("one")
    corners = np.array([sampling.choose(RULES, [case], step)[0].corner for step in range(200)])
    assert corners.min(axis=0).tolist() == [0, 0, 0]
    assert corners.max(axis=0).tolist() == [10 - 4, 20 - 6, 20 - 6]


def test_a_patch_larger_than_the_image_holds_all_of_it():
    case = make_case("one")
    rules = replace(RULES, patch_shape=(16, 24, 24), foreground_fraction=0)
    for step in range(20):
        windows = sampling.read(rules, [case], step)
        assert (windows.labels[0] > 0).sum() == (case.labels > 0).sum()
        assert windows.image[0].sum() == pytest.approx(float(case.image.sum()), rel=1e-4)


def test_a_window_that_sticks_out_is_filled_with_zeros():
    array = np.arange(1, 9).reshape(2, 2, 2)
    out = np.zeros((2, 3, 2), int)
    sampling.copy_window(array, (1, -1, 0), out)
    assert out.tolist() == [[[0, 0], [5, 6], [7, 8]], [[0, 0], [0, 0], [0, 0]]]


def test_a_window_beside_the_image_stays_empty():
    out = np.zeros((1, 2, 2, 2), int)
    sampling.copy_window(np.ones((1, 2, 2, 2), int), (5, 0, 0), out)
    assert out.sum() == 0


def test_image_and_labels_are_cut_at_the_same_place():
    case = make_case("one")
    case = replace(case, image=case.labels[None].astype(np.float32))
    for step in range(5):
        windows = sampling.read(RULES, [case], step)
        assert (windows.image[:, 0] == windows.labels).all()
        assert windows.labels[-1][2, 3, 3] > 0  # the middle of the patch is the chosen voxel


def test_the_mask_of_annotated_structures_appears_when_one_case_lacks_one():
    cases = [make_case("one"), make_case("two", annotated=(2,))]
    rows = {}
    for step in range(6):
        windows = sampling.read(RULES, cases, step)
        rows |= dict(zip(windows.cases, windows.annotated.tolist()))
    assert rows == {"one": [True, True, True], "two": [True, False, True]}


def test_small_sets_are_held_in_memory_and_large_ones_are_not():
    class Lazy:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key):
            return self.array[key]

    case = make_case("one")
    lazy = replace(case, image=Lazy(case.image), labels=Lazy(case.labels))
    size = case.image.nbytes + case.labels.nbytes
    assert isinstance(sampling.hold([lazy], size)[0].image, np.ndarray)
    assert sampling.hold([lazy], size - 1)[0] is lazy
    held, read_lazily = sampling.hold([lazy], size), [lazy]
    assert (sampling.read(RULES, held, 0).image == sampling.read(RULES, read_lazily, 0).image).all()


@pytest.mark.parametrize(
    ("cases", "previous", "sentence"),
    [
        ([], False, "there is no case to train on"),
        ([make_case("one", labels=None)], False, "one: has no labels to train on"),
        ([make_case("one", image=np.zeros((2, 4, 4, 4)))], False, "one: has 2 channels but the network takes 1"),
        ([make_case("one")], True, "one: lacks the prediction of the cascade's first stage"),
    ],
)
def test_cases_that_cannot_be_trained_on_are_refused(cases, previous, sentence):
    with pytest.raises(DataError, match=sentence):
        sampling.check_cases(cases, channels=1, previous=previous)


def test_neighbouring_slices_come_as_channels_the_same_as_in_prediction():
    case = make_case("one")
    flat = replace(RULES, patch_shape=(1, 6, 6), context_slices=2, mirror_axes=(1, 2))
    whole = with_neighbours(case.image, 2)
    for step in range(20):
        windows = sampling.read(flat, [case], step)
        plain = sampling.read(replace(flat, context_slices=0), [case], step)
        assert windows.image.shape == (3, 5, 1, 6, 6)
        np.testing.assert_array_equal(windows.image[:, 2:3], plain.image, "the slice itself is in the middle")
        for index, sample in enumerate(sampling.choose(flat, [case], step)):
            expected = np.zeros((5, 1, 6, 6), np.float32)
            sampling.copy_window(whole, sample.corner, expected)
            np.testing.assert_array_equal(windows.image[index], expected)


def test_all_slices_of_a_sample_change_alike():
    rules = replace(RULES, patch_shape=(1, 6, 6), context_slices=1, augmentation=Augmentation(gamma_probability=1.0))
    for sample in sampling.choose(rules, make_cases(), 0):
        assert len(sample.draw.gamma) == 3
        assert len(set(sample.draw.gamma)) == 1
