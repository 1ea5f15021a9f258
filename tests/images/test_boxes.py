from __future__ import annotations

import numpy as np

from autoseg.images.boxes import box_around, box_of
from autoseg.records.geometry import Box


def test_the_box_of_two_voxels():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 6] = mask[3, 0, 5] = True
    found = box_of(mask)
    assert found == (slice(1, 4), slice(0, 3), slice(5, 7))
    assert Box.of(found) == Box(start=(1, 0, 5), stop=(4, 3, 7))
    assert Box.of(found).slices() == found


def test_a_plane_has_a_box_and_an_empty_mask_has_none():
    mask = np.zeros((4, 4), bool)
    assert box_of(mask) is None
    mask[2, 3] = True
    assert box_of(mask) == (slice(2, 3), slice(3, 4))


def test_around_several_values():
    boxes = [(slice(0, 2), slice(5, 6)), None, (slice(1, 4), slice(0, 3))]
    assert box_around(boxes, [1, 3]) == (slice(0, 4), slice(0, 6))
    assert box_around(boxes, [2, 3]) == (slice(1, 4), slice(0, 3))
    assert box_around(boxes, [2]) is None
