from __future__ import annotations

import numpy as np

from autoseg.images.specks import drop_specks


def scene() -> np.ndarray:
    """A block of 1 (27 voxels) in a block of 2, a speck of 1 in the block of 2, and one of 2 in the background."""
    array = np.zeros((10, 12, 14), np.uint8)
    array[1:8, 1:8, 1:8] = 2
    array[2:5, 2:5, 2:5] = 1
    array[6, 6, 6] = 1
    array[9, 11, 12:14] = 2
    return array


def test_specks_become_what_surrounds_them() -> None:
    array = scene()
    before = array.copy()
    found, said = drop_specks(array, smallest_mm3=3.0, voxel_mm3=1.0, values=2)
    assert found[6, 6, 6] == 2  # inside the other structure
    assert (found[9, 11, 12:14] == 0).all()  # in the corner of the background
    assert (found != array).sum() == 3
    assert said == "2 specks below 3 mm3 (3 voxels) were removed from the labels"
    assert np.array_equal(array, before)


def test_the_limit_is_a_volume_and_is_itself_kept() -> None:
    array = scene()
    found, _ = drop_specks(array, smallest_mm3=1.0, voxel_mm3=0.5, values=2)
    assert found[6, 6, 6] == 2
    assert (found[9, 11, 12:14] == 2).all()  # two voxels of 0.5 mm3 are 1 mm3
    same, said = drop_specks(array, smallest_mm3=1.0, voxel_mm3=1.0, values=2)
    assert same is array
    assert said == ""


def test_voxels_that_touch_at_a_corner_are_one_piece_and_what_is_ignored_stays() -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[0, 0, 0] = array[1, 1, 1] = 1
    array[3, 3, 3] = 2  # K = 1: this is the value to ignore
    found, said = drop_specks(array, smallest_mm3=2.0, voxel_mm3=1.0, values=1)
    assert found is array
    assert said == ""
