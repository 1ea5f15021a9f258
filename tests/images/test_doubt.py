import numpy as np
import pytest

from autoseg.images.doubt import doubt
from autoseg.images.fields import Field
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage

SHAPE = (2, 3, 4)
GRID = Grid(shape=SHAPE, spacing_mm=(1, 1, 1))
PASSAGE = Passage(original=GRID, oriented=GRID, crop=Box(start=(0, 0, 0), stop=SHAPE), network=GRID)


def voice(*shares: float) -> list[Field]:
    logits = np.log(np.array(shares, np.float32)).reshape(-1, 1, 1, 1) * np.ones((1, *SHAPE), np.float32)
    return [Field(logits, PASSAGE)]


def test_two_sure_voices_that_differ_are_all_disagreement():
    entropy, disagreement = doubt([voice(1 - 1e-6, 1e-6), voice(1e-6, 1 - 1e-6)], output="softmax")
    np.testing.assert_allclose(entropy, 1, atol=1e-4)
    np.testing.assert_allclose(disagreement, 1, atol=1e-4)


def test_two_unsure_voices_that_agree_are_no_disagreement():
    entropy, disagreement = doubt([voice(0.5, 0.5), voice(0.5, 0.5)], output="softmax")
    np.testing.assert_allclose(entropy, 1, atol=1e-6)
    np.testing.assert_allclose(disagreement, 0, atol=1e-6)


def test_the_entropy_of_three_classes_is_a_share_of_the_largest():
    entropy, _ = doubt([voice(0.5, 0.25, 0.25)], output="softmax")
    assert entropy[0, 0, 0] == pytest.approx(1.5 * np.log(2) / np.log(3), abs=1e-5)


def test_the_most_doubtful_region_counts():
    logits = np.zeros((2, *SHAPE), np.float32)
    logits[0] = 20  # sure of the first, not at all of the second
    entropy, disagreement = doubt([[Field(logits, PASSAGE)]], output="sigmoid")
    np.testing.assert_allclose(entropy, 1, atol=1e-5)
    np.testing.assert_allclose(disagreement, 0, atol=1e-5)


def test_outside_the_crop_nothing_is_doubted():
    inside = Box(start=(0, 0, 0), stop=(1, 3, 4))
    small = Grid(shape=(1, 3, 4), spacing_mm=(1, 1, 1))
    passage = Passage(original=GRID, oriented=GRID, crop=inside, network=small)
    entropy, _ = doubt([[Field(np.zeros((2, 1, 3, 4), np.float32), passage)]], output="softmax")
    np.testing.assert_allclose(entropy[0], 1, atol=1e-6)
    assert not entropy[1].any()
