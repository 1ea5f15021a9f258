from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images.cases import read_image, read_labels
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.gi_tract import read
from tests.stages.importing.published import CLASSES, SIZE, SLICES, box, gi_tract

IDS = ["case2_day1", "case2_day20"]
APART = {"large_bowel": box(0), "small_bowel": box(3), "stomach": box(6)}
OVERLAPPING = {"large_bowel": box(0, width=3), "small_bowel": box(2), "stomach": box(6)}


def labels_of(folder: Path) -> np.ndarray:
    draft = read(folder, ImportOptions())
    case = draft.cases[0]
    grid = read_image(case.images, draft.channels, (), case=case.id).grid
    assert case.labels is not None
    return read_labels(case.labels, draft.labels, grid, case=case.id).array


def test_a_scan_is_its_slices(tmp_path: Path) -> None:
    draft = read(gi_tract(tmp_path, IDS, masks=APART), ImportOptions())
    image = read_image(draft.cases[1].images, draft.channels, (), case="x")
    assert image.array.shape == (1, SLICES, *SIZE)
    assert image.array.max() > 1000
    assert image.grid.spacing_mm == (3.0, 1.63, 1.5)
    assert image.notes == ()
    assert [(case.id, case.group) for case in draft.cases] == [(id, "case2") for id in IDS]
    assert any("3 mm were taken" in note for note in draft.notes)


def test_classes_apart_are_plain_structures(tmp_path: Path) -> None:
    draft = read(gi_tract(tmp_path, IDS, masks=APART), ImportOptions())
    assert [structure.name for structure in draft.labels.structures] == list(CLASSES)
    assert draft.labels.regions == ()
    expected = sum(APART[name] * value for value, name in enumerate(CLASSES, start=1))
    assert np.array_equal(labels_of(tmp_path), expected)


def test_overlapping_classes_are_regions(tmp_path: Path) -> None:
    draft = read(gi_tract(tmp_path, IDS, masks=OVERLAPPING), ImportOptions())
    assert [structure.name for structure in draft.labels.structures] == [
        "large_bowel_only",
        "small_bowel_only",
        "stomach_only",
        "large_bowel_and_small_bowel",
    ]
    assert [(r.name, r.values, r.original) for r in draft.labels.regions] == [
        ("large_bowel", (1, 4), 1),
        ("small_bowel", (2, 4), 2),
        ("stomach", (3,), 3),
    ]
    array = labels_of(tmp_path)
    for name, values in draft.labels.targets:
        assert np.array_equal(np.isin(array, values), OVERLAPPING[name])


def test_runs_that_only_touch_do_not_overlap(tmp_path: Path) -> None:
    touching = {"large_bowel": box(0), "small_bowel": box(2)}
    assert read(gi_tract(tmp_path, IDS, masks=touching), ImportOptions()).labels.regions == ()


def test_no_picture_is_opened_by_the_import(tmp_path: Path) -> None:
    for picture in gi_tract(tmp_path, IDS, masks=APART).rglob("*.png"):
        picture.write_bytes(b"no picture")
    dataset = import_dataset(tmp_path, "gi", options=ImportOptions())
    assert any("one patient" in note for note in dataset.notes)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    gi_tract(tmp_path, IDS, masks=APART)
    next(tmp_path.rglob("case2_day20/scans/slice_0002*")).unlink()
    with pytest.raises(DataError, match=r"case2_day20.*slice 0002 is missing"):
        read(tmp_path, ImportOptions())
    assert len(read(tmp_path, ImportOptions(skip=("case2_day20",))).cases) == 1


def test_scans_without_rows_are_named(tmp_path: Path) -> None:
    gi_tract(tmp_path, IDS, masks=APART)
    lines = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match=r"1 of 2 scans .*: case2_day20 \(8 rows for 3 slices\)"):
        read(tmp_path, ImportOptions())


def test_a_table_that_changed_after_the_import_is_refused(tmp_path: Path) -> None:
    draft = read(gi_tract(tmp_path / "old", IDS, masks=APART), ImportOptions())
    gi_tract(tmp_path / "new", IDS, masks=OVERLAPPING)
    (tmp_path / "old" / "train.csv").write_text((tmp_path / "new" / "train.csv").read_text())
    case = draft.cases[0]
    grid = read_image(case.images, draft.channels, (), case=case.id).grid
    assert case.labels is not None
    with pytest.raises(DataError, match="large_bowel and small_bowel overlap, which the import did not meet"):
        read_labels(case.labels, draft.labels, grid, case=case.id)
