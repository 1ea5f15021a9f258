"""A map of the network's grid lands on the voxels of the scan that it speaks of."""

from __future__ import annotations

import numpy as np

from autoseg.images import orientation
from autoseg.images.maps import at_home
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage


def test_a_map_is_put_back_turned_and_interpolated() -> None:
    original = Grid(shape=(4, 6, 8), spacing_mm=(1, 1, 1), direction=((-1, 0, 0), (0, 1, 0), (0, 0, 1)))
    oriented = orientation.orient_grid(original)
    crop = Box(start=(0, 2, 4), stop=(4, 6, 8))
    network = oriented.model_copy(update={"shape": (2, 2, 2), "spacing_mm": (2.0, 2.0, 2.0)})
    field = np.zeros((2, 2, 2), np.float32)
    field[1, 1, 1] = 1
    found = at_home(field, Passage(original=original, oriented=oriented, crop=crop, network=network))
    # The last octant of the crop, and x runs the other way in the file.
    assert found.shape == original.shape
    assert found[3, 5, 0] == found.max() == 1
    assert not found[:, :2].any()
    assert not found[:, :, 4:].any()
