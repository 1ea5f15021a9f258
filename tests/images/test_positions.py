from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images.positions import draw_positions, read_positions, write_positions


def test_positions_are_a_sample_that_depends_on_the_case_alone() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[2:28, 2:28, 2:28], labels[0, 0, 5] = 2, 5
    found = draw_positions(labels, case="a")
    assert sorted(found) == [2, 5]
    assert found[5].tolist() == [[0, 0, 5]]
    assert found[2].shape == (10_000, 3)
    assert found[2].dtype == np.int32
    assert np.all(labels[tuple(found[2].T)] == 2)
    assert len(np.unique(found[2], axis=0)) == 10_000
    assert np.allclose(found[2].mean(axis=0), 14.5, atol=0.5)  # drawn from everywhere
    assert np.array_equal(draw_positions(labels, case="a")[2], found[2])
    assert not np.array_equal(draw_positions(labels, case="b")[2], found[2])


def test_a_value_may_be_left_out() -> None:
    assert list(draw_positions(np.array([[[1, 2, 3]]], np.int16), case="a", ignore=3)) == [1, 2]
    assert draw_positions(np.zeros((2, 2, 2), np.uint8), case="a") == {}


def test_positions_survive_the_disk(tmp_path: Path) -> None:
    positions = draw_positions(np.array([[[1, 2], [300, 2]]], np.int16), case="a")
    write_positions(tmp_path / "a.positions.npz", positions)
    write_positions(tmp_path / "b.positions.npz", positions)
    found = read_positions(tmp_path / "a.positions.npz")
    assert {value: where.tolist() for value, where in found.items()} == {
        1: [[0, 0, 0]],
        2: [[0, 0, 1], [0, 1, 1]],
        300: [[0, 1, 0]],
    }
    assert (tmp_path / "a.positions.npz").read_bytes() == (tmp_path / "b.positions.npz").read_bytes()
