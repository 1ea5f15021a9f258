"""Which files are which channel of which case."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import Channel
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.scans import find_scans

ONE = (Channel(name="MRI", kind="mr"),)
TWO = (Channel(name="CT", kind="ct"), Channel(name="MR_T1", kind="mr"))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def found(folder: Path, channels: tuple[Channel, ...]) -> dict[str, dict[str, str]]:
    return {
        case.id: {name: Path(source.path).name for name, source in case.images.items() if source.kind == "file"}
        for case in find_scans(folder, channels)
    }


def test_with_one_channel_every_image_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b_0000.nii.gz", "sub/c.nrrd", "._a.nii.gz", "notes.txt", ".DS_Store")
    assert found(tmp_path, ONE) == {
        "a": {"MRI": "a.nii.gz"},
        "b": {"MRI": "b_0000.nii.gz"},
        "c": {"MRI": "c.nrrd"},
    }


def test_channels_are_told_by_number_or_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_CT.nii.gz", "b_mr_t1.nii.gz")
    touch(tmp_path, "case_13/case_13_IMG_CT.nrrd", "case_13/case_13_IMG_MR_T1.nrrd", "case_13/case_13_OAR_Eye.seg.nrrd")
    assert found(tmp_path, TWO) == {
        "a": {"CT": "a_0000.nii.gz", "MR_T1": "a_0001.nii.gz"},
        "b": {"CT": "b_CT.nii.gz", "MR_T1": "b_mr_t1.nii.gz"},
        "case_13": {"CT": "case_13_IMG_CT.nrrd", "MR_T1": "case_13_IMG_MR_T1.nrrd"},
    }


def test_one_file_may_hold_all_channels(tmp_path: Path) -> None:
    (case,) = find_scans(touch(tmp_path, "a.nii.gz"), TWO)
    assert [(name, getattr(source, "volume", None)) for name, source in case.images.items()] == [
        ("CT", 0),
        ("MR_T1", 1),
    ]


def test_a_single_file_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    assert [case.id for case in find_scans(tmp_path / "b.nii.gz", ONE)] == ["b"]


def test_a_missing_channel_names_case_channel_and_fix(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz")
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, TWO)
    assert str(caught.value) == (
        f"a: {tmp_path}: 1 of 1 scans lack a channel: a (MR_T1). Add it as a_MR_T1.nii.gz or a_0001.nii.gz."
    )


def test_f46_all_cases_that_lack_a_channel_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "c_0001.nii.gz")
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, TWO)
    assert caught.value.what == "2 of 3 scans lack a channel: a (MR_T1), c (CT)"
    assert (caught.value.case, caught.value.code) == (None, "missing_channel")


def test_f46_a_channel_too_many_is_no_case_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    with pytest.raises(DataError, match="is one channel more than the 1 that the models were trained with"):
        find_scans(tmp_path, ONE)
    (tmp_path / "a_0000.nii.gz").unlink()
    assert list(found(tmp_path, ONE)) == ["a_0001"]  # a name that ends in a number


def test_an_optional_channel_may_be_missing(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz")
    channels = (TWO[0], TWO[1].model_copy(update={"optional": True}))
    assert found(tmp_path, channels) == {"a": {"CT": "a_0000.nii.gz"}}


def test_two_files_for_one_channel_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a.nii.gz")
    with pytest.raises(DataError, match=r"is channel MRI of case a, but so is .*Rename or remove one"):
        find_scans(tmp_path, ONE)


def test_an_empty_or_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no image in here"):
        find_scans(touch(tmp_path, "readme.txt"), ONE)
    with pytest.raises(UsageError, match="there is no such file or folder"):
        find_scans(tmp_path / "nowhere", ONE)


def test_an_unsafe_name_never_becomes_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "a b.nii.gz")
    with pytest.raises(DataError, match="'a b' is not a safe name"):
        find_scans(tmp_path, ONE)
