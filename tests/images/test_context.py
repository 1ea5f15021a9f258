import numpy as np

from autoseg.images.context import merged, split_by_side, with_neighbours
from autoseg.records.configuration import Sides


def test_each_slice_gets_its_neighbours_as_channels_and_the_ends_repeat():
    image = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1) * np.ones((2, 1, 1, 1), np.float32)
    image[1] += 10
    seen = with_neighbours(image, 1)[:, :, 0, 0]
    assert seen.tolist() == [
        [0, 0, 1, 2],
        [10, 10, 11, 12],
        [0, 1, 2, 3],
        [10, 11, 12, 13],
        [1, 2, 3, 3],
        [11, 12, 13, 13],
    ]
    assert with_neighbours(image, 0) is image


def test_a_merged_pair_goes_to_the_twin_of_its_side():
    logits = np.zeros((4, 1, 1, 4), np.float32)
    logits[1] = 5.0  # the merged pair is structure 1; 3 is another structure
    logits[3, ..., 1] = 9.0
    sides = Sides(handling="merge_split", axis=2, pairs=((1, 2),), split_at=(0.5,), first_below=(False,))
    assert split_by_side(logits, sides).argmax(0).tolist() == [[[2, 3, 1, 1]]]
    assert logits[2].max() == 0, "the input stays as it is"


def test_a_merged_label_map_holds_the_first_of_each_pair():
    labels = np.array([[[0, 1, 2, 3]]], np.uint8)
    sides = Sides(handling="merge_split", axis=2, pairs=((1, 2),))
    assert merged(labels, sides).tolist() == [[[0, 1, 1, 3]]]
    assert merged(labels, None) is labels
    assert merged(labels, sides.model_copy(update={"handling": "swap"})) is labels
