from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import FileSource
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.manifest import read
from tests.command_line import done
from tests.stages.importing.simple import manifest
from tests.stages.importing.writers import write_json


def test_a_file_may_be_the_source(tmp_path: Path) -> None:
    source = manifest(tmp_path / "data", ["a", "b"])
    said = done("import", source, "--as", "Mine", "--root", tmp_path / "work").said
    assert "manifest layout, 2 cases" in said
    assert "CT (ct), PET (pet)" in said


def test_patients_absolute_paths_and_semicolons(tmp_path: Path) -> None:
    manifest(tmp_path, ["a", "b"])
    lines = ["case;patient;image:CT;label"]
    lines += [f"{id};anna;{tmp_path}/scans/{id}_ct.nii.gz;truth/{id}.nii.gz" for id in "ab"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    dataset = import_dataset(tmp_path / "m.csv", "m", options=ImportOptions())
    assert [case.group for case in dataset.cases] == ["anna", "anna"]
    assert dataset.cases[0].images["CT"] == FileSource(path=f"{tmp_path}/scans/a_ct.nii.gz")


def test_json_names_labels_and_kinds(tmp_path: Path) -> None:
    manifest(tmp_path, ["a"])
    row = {"case": "a", "X": "scans/a_ct.nii.gz", "label": "truth/a.nii.gz"}
    write_json(tmp_path / "m.json", {"cases": [row], "labels": {"liver": 1, "cyst": 2}, "channels": {"X": "us"}})
    draft = read(tmp_path / "m.json", ImportOptions())
    assert [(channel.name, channel.kind) for channel in draft.channels] == [("X", "us")]
    assert [item.name for item in draft.labels.structures] == ["liver", "cyst"]


def test_all_wrong_rows_are_listed(tmp_path: Path) -> None:
    source = manifest(tmp_path / "data", ["a"])
    ct, truth = "scans/a_ct.nii.gz", "truth/a.nii.gz"
    rows = [f"A,{ct},{ct},{truth}", f"b,,{ct},{truth}", f"c,../x.nii.gz,{ct},{truth}", f"d,no.nii.gz,{ct},{truth},e"]
    source.write_text(source.read_text() + "\n" + "\n".join(rows))
    with pytest.raises(DataError) as caught:
        read(source, ImportOptions())
    assert caught.value.what == (
        "4 of 5 rows are wrong: "
        "line 3 (A): the case stands in line 2 as well (upper and lower case do not count); "
        "line 4 (b): no image:CT; "
        "line 5 (c): ../x.nii.gz leads outside of the manifest's folder; "
        "line 6 (d): 1 cells too many, no.nii.gz does not exist"
    )
    assert len(read(source, ImportOptions(skip=("A", "b", "c", "d"))).cases) == 1


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("case,CT\na,x\n")
    with pytest.raises(DataError, match="has no column image:<channel> and no column label; it has case, CT"):
        read(tmp_path / "m.csv", ImportOptions())


def test_another_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").touch()
    with pytest.raises(DataError, match="is a file that lists no cases in a form that is known"):
        import_dataset(tmp_path / "x.nii.gz", "x", options=ImportOptions())


def test_an_optional_channel_may_be_missing(tmp_path: Path) -> None:
    source = manifest(tmp_path, ["a", "b"])
    source.write_text(source.read_text().replace("./scans/b_pet.nii.gz", ""))
    with pytest.raises(DataError, match=r"1 of 2 rows are wrong: .*no image:PET"):
        read(source, ImportOptions())
    dataset = import_dataset(source, "m", options=ImportOptions(optional=("PET",)))
    assert [(item.name, item.optional) for item in dataset.channels] == [("CT", False), ("PET", True)]
    assert [list(case.images) for case in dataset.cases] == [["CT", "PET"], ["CT"]]


def test_a_row_without_any_image_is_wrong_even_where_all_are_optional(tmp_path: Path) -> None:
    source = manifest(tmp_path, ["a", "b"])
    text = source.read_text().replace("./scans/b_pet.nii.gz", "").replace("scans/b_ct.nii.gz", "")
    source.write_text(text)
    with pytest.raises(DataError, match=r"\(b\): no image at all"):
        read(source, ImportOptions(optional=("CT", "PET")))


def test_an_optional_channel_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no channel 'MR'"):
        import_dataset(manifest(tmp_path, ["a"]), "m", options=ImportOptions(optional=("MR",)))
