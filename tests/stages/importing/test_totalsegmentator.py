from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import MaskSource
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.totalsegmentator import read, recognise
from tests.command_line import done, typed
from tests.stages.importing.simple import totalsegmentator

TWO = {"s0001": ("spleen", "aorta", "kidney_left", "kidney_right"), "s0002": ("aorta", "liver")}


def test_structures_of_all_cases_by_name(tmp_path: Path) -> None:
    draft = read(totalsegmentator(tmp_path, TWO), ImportOptions())
    assert [item.name for item in draft.labels.structures] == [
        "aorta",
        "kidney_left",
        "kidney_right",
        "liver",
        "spleen",
    ]
    assert draft.labels.mirror_pairs == ((2, 3),)
    assert [(channel.name, channel.kind) for channel in draft.channels] == [("CT", "ct")]
    source = draft.cases[1].labels
    assert isinstance(source, MaskSource)
    assert [mask.value for mask in source.masks] == [1, 4]
    assert draft.cases[1].annotated == ("aorta", "liver")


@pytest.mark.parametrize("separator", [";", ","])
def test_test_rows_are_locked_away(tmp_path: Path, separator: str) -> None:
    totalsegmentator(tmp_path, {f"s{n}": ("liver",) for n in range(4)})
    rows = ("image_id,age,split", "s0,60,train", "s1,,test", "s2,7,val", "s9,3,test")
    (tmp_path / "meta.csv").write_text("\ufeff" + "\r\n".join(rows).replace(",", separator), encoding="utf-8")
    dataset = import_dataset(tmp_path, "t", options=ImportOptions(folds=2))
    assert [case.id for case in dataset.test_cases] == ["s1"]
    assert [case.id for case in dataset.cases] == ["s0", "s2", "s3"]
    assert "1 cases have no row in meta.csv and are trained on: s3." in dataset.notes
    assert "1 rows of meta.csv are of cases that are not here: s9." in dataset.notes


def test_an_unknown_split_is_refused_with_its_line(tmp_path: Path) -> None:
    totalsegmentator(tmp_path, {"s0": ("liver",)})
    (tmp_path / "meta.csv").write_text("image_id;split\ns0;tset\n")
    with pytest.raises(DataError, match="line 2: case 's0' has the split 'tset'"):
        read(tmp_path, ImportOptions())


def test_one_case_folder_and_mr(tmp_path: Path) -> None:
    source = totalsegmentator(tmp_path, {"s1": ("liver",)}, image="mri") / "s1"
    assert recognise(source)
    draft = read(source, ImportOptions())
    assert ([case.id for case in draft.cases], draft.channels[0].kind) == (["s1"], "mr")


def test_cases_without_image_are_all_listed(tmp_path: Path) -> None:
    totalsegmentator(tmp_path, {"s1": ("liver",), "s2": ("liver",), "s3": ("liver",)})
    for id in ("s1", "s3"):
        (tmp_path / id / "ct.nii.gz").unlink()
    with pytest.raises(DataError, match=r"2 of 3 cases lack ct\.nii\.gz .*: s1, s3"):
        read(tmp_path, ImportOptions())


def test_ct_and_mr_do_not_mix(tmp_path: Path) -> None:
    totalsegmentator(tmp_path, {"s1": ("liver",)})
    totalsegmentator(tmp_path, {"s2": ("liver",)}, image="mri")
    with pytest.raises(DataError, match=r"1 of 2 cases have mri\.nii\.gz where the others have ct\.nii\.gz: s2"):
        read(tmp_path, ImportOptions())


def test_real_masks_that_lost_their_place_are_imported_and_refused_by_the_check(
    real_data: Path, tmp_path: Path
) -> None:
    said = done("import", real_data / "totalsegmentator", "--as", "Total", "--root", tmp_path).said
    assert "totalsegmentator layout, 1 cases" in said
    outcome = typed("check", "-d", "Total", "--root", tmp_path, "--workers", 1, "--json")
    assert outcome.code == 3
    (problem, *_) = [item for item in outcome.json()["problems"] if item["severity"] == "error"]
    assert "/s0001/segmentations/" in problem["file"]
    assert "shape (30, 101, 122) (z, y, x) but the image has (112, 101, 122)" in problem["what"]
