from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from autoseg.images import files
from autoseg.images.register import (
    Registration,
    corner_shift_mm,
    register_rigid,
    resample_registered,
    shift_mm,
    turn_degrees,
)
from autoseg.records.geometry import Grid

SHIFT_MM = 10.0
TURN_DEGREES = 5.0


def coarse(path: Path) -> tuple[np.ndarray, Grid]:
    array, grid = files.read_volume(path)
    spacing = tuple(4 * value for value in grid.spacing_mm)
    array = array[:180, :216, :180].reshape(45, 4, 54, 4, 45, 4).mean((1, 3, 5))
    origin = grid.affine() @ (1.5, 1.5, 1.5, 1)
    return array, Grid(shape=(45, 54, 45), spacing_mm=spacing, origin_mm=tuple(origin[:3]), direction=grid.direction)


def moved(grid: Grid, *, shift_mm: float, turn_degrees: float) -> tuple[Grid, np.ndarray]:
    """Move a grid as a whole: the same voxels, said to lie elsewhere. Returns it and the motion (4, 4)."""
    angle = np.deg2rad(turn_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centre = (grid.affine() @ (*(np.array(grid.shape) - 1) / 2, 1))[:3]
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre - turn @ centre + [shift_mm, 0, 0]
    origin = tuple((motion @ (*grid.origin_mm, 1))[:3])
    rows = tuple(tuple(row) for row in turn @ np.asarray(grid.direction))
    return grid.model_copy(update={"origin_mm": origin, "direction": rows}), motion


def check_found(found: Registration, truth: np.ndarray, grid: Grid) -> None:
    error = np.linalg.inv(truth) @ found.matrix
    centre = grid.affine() @ (*(np.array(grid.shape) - 1) / 2, 1)
    assert found.accepted
    assert found.metric_after < found.metric_before
    assert np.linalg.norm((error @ centre - centre)[:3]) < 1.0
    assert turn_degrees(error) < 0.5
    assert corner_shift_mm(error, grid) < 1.0  # landmarks at the corners of the field


def test_a_known_motion_between_two_contrasts_is_found_again(real_data: Path) -> None:
    flair, grid = coarse(real_data / "ms_lesions" / "patient07" / "FLAIR.nii.gz")
    t1, _ = coarse(real_data / "ms_lesions" / "patient07" / "T1.nii.gz")
    elsewhere, motion = moved(grid, shift_mm=SHIFT_MM, turn_degrees=TURN_DEGREES)
    found = register_rigid(t1, elsewhere, flair, grid)
    check_found(found, motion, grid)
    back, valid = resample_registered(t1, elsewhere, grid, found.matrix)
    inner = (slice(8, 37),) * 3
    assert np.corrcoef(back[inner].ravel(), t1[inner].ravel())[0, 1] > 0.95
    assert back.dtype == np.float32
    assert valid.dtype == np.bool_
    assert valid.mean() > 0.97  # the field of view moved with the image, and came back with it
    _, unmoved = resample_registered(t1, elsewhere, grid, np.eye(4))
    assert 0.6 < unmoved.mean() < 0.99


def blob(shape: tuple[int, int, int], *, sign: float = 1.0) -> np.ndarray:
    z, y, x = np.indices(shape, dtype=float)
    ball = np.exp(-(((z - 10) / 4) ** 2 + ((y - 14) / 6) ** 2 + ((x - 18) / 8) ** 2))
    bump = 0.7 * np.exp(-(((z - 14) / 3) ** 2 + ((y - 22) / 3) ** 2 + ((x - 10) / 3) ** 2))
    return (sign * (ball + bump)).astype(np.float32)


def test_scans_whose_headers_do_not_overlap_start_centre_on_centre() -> None:
    grid = Grid(shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    elsewhere, motion = moved(grid, shift_mm=400.0, turn_degrees=0.0)
    check_found(register_rigid(blob(grid.shape, sign=-1), elsewhere, blob(grid.shape), grid), motion, grid)


def test_the_same_scans_give_the_same_matrix_every_time() -> None:
    grid = Grid(shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    elsewhere, _ = moved(grid, shift_mm=8.0, turn_degrees=3.0)
    found = [register_rigid(blob(grid.shape, sign=-1), elsewhere, blob(grid.shape), grid) for _ in range(3)]
    assert found[0].accepted
    assert len({item.matrix.tobytes() for item in found}) == 1


@pytest.mark.parametrize("moving", ["constant", "the same"])
def test_where_nothing_better_is_found_the_headers_stay(moving: str) -> None:
    grid = Grid(shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    array = np.ones(grid.shape, np.float32) if moving == "constant" else blob(grid.shape)
    found = register_rigid(array, grid, blob(grid.shape), grid)
    if not found.accepted:
        assert np.array_equal(found.matrix, np.eye(4))
    else:
        assert np.abs(found.matrix - np.eye(4)).max() < 0.1
    assert moving == "the same" or not found.accepted


def test_the_shift_is_that_of_the_centre_and_of_the_corner_that_moves_most() -> None:
    grid = Grid(shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0), origin_mm=(500.0, 500.0, 500.0))
    _, motion = moved(grid, shift_mm=7.0, turn_degrees=0.0)
    assert shift_mm(motion, grid) == pytest.approx(7.0)
    assert corner_shift_mm(motion, grid) == pytest.approx(7.0)
    _, turned = moved(grid, shift_mm=0.0, turn_degrees=3.0)
    assert shift_mm(turned, grid) == pytest.approx(0.0, abs=1e-6)
    reach = np.hypot(32, 32)  # from the axis to a corner, mm
    assert corner_shift_mm(turned, grid) == pytest.approx(2 * reach * np.sin(np.deg2rad(1.5)), rel=1e-3)


def test_the_couch_does_not_draw_the_patient_along() -> None:
    """The patient moved on the couch, which shows in both scans and stayed where it was."""
    grid = Grid(shape=(24, 48, 48), spacing_mm=(2.0, 2.0, 2.0))
    elsewhere, motion = moved(grid, shift_mm=6.0, turn_degrees=0.0)
    fixed = 100 * blob(grid.shape)
    moving, _ = resample_registered(-fixed, elsewhere, grid, np.eye(4))
    mask = np.zeros(grid.shape, bool)
    mask[:, :34] = True
    couch = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 2000, (24, 12, 48)), 1.5)
    fixed[:, 36:], moving[:, 36:] = couch, -couch
    found = register_rigid(moving, grid, fixed, grid, mask=mask)
    error = np.linalg.inv(motion) @ found.matrix
    assert found.accepted
    assert shift_mm(error, grid) < 1.0
    whole = register_rigid(moving, grid, fixed, grid)
    assert shift_mm(np.linalg.inv(motion) @ whole.matrix, grid) > 2.0
