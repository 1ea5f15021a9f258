from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files, regrid
from autoseg.images.foreground import body_box, body_mask, otsu
from autoseg.records.geometry import Grid

GRID = Grid(shape=(20, 60, 80), spacing_mm=(5.0, 3.0, 3.0))


def chest() -> tuple[np.ndarray, np.ndarray]:
    """A CT of an ellipse of soft tissue with lungs, on a thin couch; returns it and the ellipse."""
    _, y, x = np.indices(GRID.shape)
    body = ((y - 25) / 15) ** 2 + ((x - 40) / 25) ** 2 < 1
    lungs = ((y - 25) / 8) ** 2 + ((np.abs(x - 40) - 11) / 7) ** 2 < 1
    array = np.where(body, 40.0, -1000.0)
    array[lungs] = -800.0
    array[:, 42:44, 5:75] = 200.0  # the couch, one voxel under the back
    return array.astype(np.float32), body


def test_the_body_is_found_without_the_couch_and_with_the_lungs() -> None:
    array, body = chest()
    found = body_mask(array, GRID, kind="ct")
    assert (found != body).mean() < 0.01
    assert not found[:, 43, :].any()


def test_the_box_has_a_margin_and_ends_with_the_scan() -> None:
    array, _ = chest()
    box = body_box(array, GRID, kind="ct", margin_mm=9.0)
    assert box.start == (0, 11 - 3, 16 - 3)
    assert box.stop == (20, 40 + 3, 65 + 3)


def test_a_rim_reaches_beyond_the_skin() -> None:
    array, body = chest()
    found = body_mask(array, GRID, kind="ct", dilate_mm=6.0)
    assert found[body].all()
    assert found[10, 9, 40]
    assert not found[10, 7, 40]


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_scan_without_contrast_is_all_body(value: float) -> None:
    assert body_mask(np.full(GRID.shape, value, np.float32), GRID, kind="mr").all()
    assert body_box(np.full(GRID.shape, value, np.float32), GRID, kind="mr").shape == GRID.shape


def test_otsu_lies_between_two_classes() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(m, 1, 500) for m in (0, 20)])
    threshold = otsu(values)
    assert threshold is not None
    assert 5 < threshold < 15
    assert otsu(np.ones(5)) is None


def test_a_real_head_loses_no_voxel_of_its_lesions(real_data: Path) -> None:
    folder = real_data / "ms_lesions" / "patient07"
    array, grid = files.read_volume(folder / "FLAIR.nii.gz")
    lesions, _ = files.read_volume(folder / "lesions.nii.gz")
    box = body_box(array.astype(np.float32), grid, kind="mr")
    assert lesions[box.slices()].sum() == lesions.sum()
    assert np.prod(box.shape) < 0.7 * array.size
    # What is kept is what the network would be shown of the whole brain and a margin.
    brain = regrid.nonzero_box((array > np.percentile(array[array > 0], 30))[None])
    assert all(a <= b for a, b in zip(box.start, brain.start, strict=True))
