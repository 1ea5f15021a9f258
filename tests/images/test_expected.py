import numpy as np
import pytest

from autoseg.images.expected import expected_overlap
from autoseg.images.home import Field
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage

GRID = Grid(shape=(1, 1, 4), spacing_mm=(1, 1, 1))
PASSAGE = Passage(original=GRID, oriented=GRID, crop=Box(start=(0, 0, 0), stop=(1, 1, 4)), network=GRID)


def test_four_voxels_by_hand():
    organ = np.array([0.9, 0.6, 0.4, 0.1])
    logits = np.log(np.stack([1 - organ, organ])).astype(np.float32)[:, None, None]
    ((dice, volume),) = expected_overlap([Field(logits, PASSAGE)], output="softmax")
    assert dice == pytest.approx(2 * 1.5 / (2.0 + 2))  # 0.9 and 0.6 were predicted
    assert volume == pytest.approx(np.log(3))


def test_regions_are_looked_at_one_by_one_and_nothing_predicted_is_nothing_expected():
    share = np.array([[0.9, 0.9, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2]])
    logits = np.log(share / (1 - share)).astype(np.float32)[:, None, None]
    found = expected_overlap([Field(logits, PASSAGE)], output="sigmoid")
    np.testing.assert_allclose(found, [[2 * 1.8 / 4, np.log(3)], [0, 0]], atol=1e-6)
