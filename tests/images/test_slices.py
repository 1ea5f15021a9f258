from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.images import files, slices
from autoseg.records.dataset import Combination, RunLengthSource, SlicesSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import IDENTITY, Grid

FILE = Path("train.csv")


def picture(path: Path, *, shape: tuple[int, int] = (4, 5), value: int = 1000) -> str:
    array = np.full((1, *shape), value, np.uint16)
    files.write_volume(path, array, Grid(shape=array.shape, spacing_mm=(1.0, 1.0, 1.0)))
    return str(path)


def table(folder: Path, *rows: str) -> RunLengthSource:
    (folder / "t.csv").write_text("\n".join(["id,class,segmentation", *rows]))
    combinations = (Combination(classes=("a",), value=1), Combination(classes=("a", "b"), value=2))
    return RunLengthSource(path=str(folder / "t.csv"), prefix="s_", first=5, combinations=combinations)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.data())
def test_run_lengths_go_round(height: int, width: int, data: st.DataObject) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(flags).reshape(height, width)
    assert np.array_equal(slices.decode(slices.encode(mask), (height, width), file=FILE, id="x"), mask)


def test_runs_count_from_1_along_the_rows() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 1]], bool)
    assert slices.encode(mask) == "2 3 6 1"
    assert np.array_equal(slices.decode("6 1 2 3", (2, 3), file=FILE, id="x"), mask)


def test_slices_are_stacked_from_z_0_up(tmp_path: Path) -> None:
    paths = tuple(picture(tmp_path / f"{n}.png", value=1000 + n) for n in (3, 1, 2))
    array, header = slices.read(SlicesSource(paths=paths, spacing_mm=(3.0, 1.5, 1.25)))
    assert array.dtype == np.uint16
    assert array[:, 0, 0].tolist() == [1003, 1001, 1002]
    assert header.grid == Grid(shape=(3, 4, 5), spacing_mm=(3.0, 1.5, 1.25), direction=IDENTITY)
    assert header.notes == ()


def test_a_slice_of_another_size_is_named(tmp_path: Path) -> None:
    paths = (picture(tmp_path / "1.png"), picture(tmp_path / "2.png", shape=(5, 4)))
    with pytest.raises(DataError, match=r"2.png: is \(5, 4\) pixels .* but 1.png is \(4, 5\)"):
        slices.read(SlicesSource(paths=paths, spacing_mm=(1.0, 1.0, 1.0)))


def test_rows_of_other_scans_do_not_count(tmp_path: Path) -> None:
    source = table(tmp_path, "s_0006,a,1 3", "s_0006,b,2 1", "s_0005,a,", "other_0001,a,900 9")
    assert slices.read_labels(source, (2, 1, 4)).tolist() == [[[0, 0, 0, 0]], [[1, 2, 1, 0]]]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("s_0005,a,1 5", "reach pixel 5 of a slice of 1 x 4"),
        ("s_0005,a,1", "are no pairs of whole numbers"),
        ("s_0005,a,1 x", "are no pairs of whole numbers"),
        ("s_0005,a,0 2", "both count from 1"),
        ("s_0005,b,1 1", "b overlap, which the import did not meet"),
        ("s_0005,c,1 1", "has the class 'c', which the import did not meet"),
        ("s_0007,a,1 1", "belongs to none of the 2 slices"),
        ("s_0004,a,1 1", "belongs to none of the 2 slices"),
        ("s_0005,a", "line 2 has 2 cells"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        slices.read_labels(table(tmp_path, row), (2, 1, 4))
    assert sentence in caught.value.what


def test_a_table_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,predicted\n1,2\n")
    with pytest.raises(DataError, match="has the columns id, predicted"):
        list(slices.read_rows(tmp_path / "t.csv"))
