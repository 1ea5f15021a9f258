"""Faults of a data set that an import must name: exit code, code, file, and what to do. Rows of FAULTS.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoseg.records.errors import BAD_DATA, USAGE, UserError
from autoseg.stages.importing import ImportOptions, import_dataset
from tests.stages.importing.writers import blob, decathlon, hanseg, nnunet, voxels, write_json, write_nifti

IDS = ("case0", "case1", "case2")


def describe(source: Path, **changes: Any) -> None:
    """Change keys of dataset.json; None removes one."""
    content = json.loads((source / "dataset.json").read_text()) | changes
    write_json(source / "dataset.json", {key: value for key, value in content.items() if value is not None})


def refused(source: Path, options: ImportOptions | None = None, *, name: str = "study") -> UserError:
    with pytest.raises(UserError) as caught:
        import_dataset(source, name, options=options or ImportOptions())
    error = caught.value
    assert error.fix, "an error without advice"
    assert "\n" not in str(error)
    return error


def two_names(source: Path) -> None:
    describe(source, labels={"background": 0, "a": 1, "b": 1})


def trailing_comma(source: Path) -> None:
    (source / "dataset.json").write_text('{\n "labels": {"background": 0,},\n}')


def repeated_key(source: Path) -> None:
    (source / "dataset.json").write_text('{"labels": {"a": 1, "a": 2}}')


def latin(source: Path) -> None:
    (source / "dataset.json").write_bytes(b'{"name": "\xe4"}')


def no_description(source: Path) -> None:
    (source / "dataset.json").unlink()


def missing_channel(source: Path) -> None:
    describe(source, channel_names={"0": "CT", "1": "PET"})
    shutil.copy(source / "imagesTr" / "case0_0000.nii.gz", source / "imagesTr" / "case0_0001.nii.gz")


def extra_channel(source: Path) -> None:
    shutil.copy(source / "imagesTr" / "case1_0000.nii.gz", source / "imagesTr" / "case1_0001.nii.gz")


def no_number(source: Path) -> None:
    describe(source, channel_names={"0": "CT", "1": "PET"})
    for id in IDS[1:]:
        shutil.copy(source / "imagesTr" / f"{id}_0000.nii.gz", source / "imagesTr" / f"{id}_0001.nii.gz")
    (source / "imagesTr" / "case0_0000.nii.gz").rename(source / "imagesTr" / "case0.nii.gz")


def upper_and_lower(source: Path) -> None:
    write_nifti(source / "imagesTr" / "Case1_0000.nii.gz", voxels(5))
    write_nifti(source / "labelsTr" / "Case1.nii.gz", blob(1))


def two_suffixes(source: Path) -> None:
    write_nifti(source / "imagesTr" / "case1_0000.nii", voxels(5))


def unsafe_id(source: Path) -> None:
    write_nifti(source / "imagesTr" / "a b_0000.nii.gz", voxels(5))
    write_nifti(source / "labelsTr" / "a b.nii.gz", blob(1))


def without_labels(source: Path) -> None:
    (source / "labelsTr" / "case2.nii.gz").unlink()


def without_image(source: Path) -> None:
    (source / "imagesTr" / "case2_0000.nii.gz").unlink()


def nothing_there(source: Path) -> None:
    for path in (source / "imagesTr").iterdir():
        path.unlink()


def listed_outside(source: Path) -> None:
    describe(source, dataset={"case0": {"images": ["../../evil.nii.gz"], "label": "labelsTr/case0.nii.gz"}})


def listed_id_outside(source: Path) -> None:
    entry = {"images": ["imagesTr/case0_0000.nii.gz"], "label": "labelsTr/case0.nii.gz"}
    describe(source, dataset={"../../pwn/evil": entry})


NNUNET: list[tuple[str, Callable[[Path], None], str, str, str]] = [
    ("F19", two_names, "repeated_value", "dataset.json", "'a' and 'b' share the value 1"),
    ("F52 comma", trailing_comma, "bad_json", "dataset.json", "line 2, column"),
    ("F52 key twice", repeated_key, "bad_json", "dataset.json", "the key 'a' stands twice"),
    ("F52 encoding", latin, "bad_json", "dataset.json", "is not UTF-8 text (byte 10)"),
    ("F52 none", no_description, "missing_file", "dataset.json", "No such file"),
    ("F52 no labels", lambda s: describe(s, labels=None), "no_labels", "dataset.json", "label values"),
    ("F52 no channels", lambda s: describe(s, channel_names=None), "no_channels", "dataset.json", "which channels"),
    (
        "F46 missing",
        missing_channel,
        "missing_channel",
        "imagesTr",
        "2 of 3 cases lack a channel: case1 (_0001), case2",
    ),
    ("F46 extra", extra_channel, "extra_channel", "imagesTr", "1 of 3 cases have more channels than the 1"),
    ("F44 no number", no_number, "missing_channel", "imagesTr", "case0 (case0.nii.gz has no channel number)"),
    ("F48 letters", upper_and_lower, "duplicate_case", "", "are the same case"),
    ("F48 suffixes", two_suffixes, "duplicate_case", "case1_0000.nii.gz", "and case1_0000.nii are the same case"),
    ("F50 id", unsafe_id, "unsafe_name", "imagesTr", "case id 'a b' is not a safe name"),
    ("F50 path", listed_outside, "unsafe_path", "dataset.json", "lists '../../evil.nii.gz', which leads outside"),
    ("F50 listed id", listed_id_outside, "unsafe_name", "dataset.json", "'../../pwn/evil' is not a safe name"),
    ("F04 labels", without_labels, "missing_labels", "labelsTr", "1 of 3 cases have no label file: case2"),
    ("F04 image", without_image, "missing_image", "imagesTr", "a label file but no image: case2"),
    ("F47", nothing_there, "no_cases", "imagesTr", "holds no image"),
]


@pytest.mark.parametrize(("fault", "code", "file", "sentence"), [row[1:] for row in NNUNET], ids=[r[0] for r in NNUNET])
def test_nnunet(tmp_path: Path, fault: Callable[[Path], None], code: str, file: str, sentence: str) -> None:
    source = nnunet(tmp_path, IDS)
    fault(source)
    error = refused(source)
    assert (error.exit_code, error.code) == (BAD_DATA, code)
    assert str(error.file).endswith(file)
    assert sentence in error.what


@pytest.mark.parametrize("fault", [missing_channel, without_labels, without_image, unsafe_id, extra_channel])
def test_bad_cases_can_be_left_out(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    source = nnunet(tmp_path, IDS)
    fault(source)
    if fault is missing_channel:
        describe(source, channel_names={"0": "CT", "1": "PET"})
    skip = {
        missing_channel: ("case1", "case2"),
        without_labels: ("case2",),
        without_image: ("case2",),
        unsafe_id: ("a b",),
        extra_channel: ("case1",),
    }[fault]
    dataset = import_dataset(source, "study", options=ImportOptions(skip=skip))
    assert not {case.id for case in dataset.cases} & set(skip)
    assert dataset.cases


def entry_outside(source: Path) -> None:
    describe(source, training=[{"image": "../../../etc/passwd.nii.gz", "label": "./labelsTr/case0.nii.gz"}])


def entry_absolute(source: Path) -> None:
    describe(source, training=[{"image": "/etc/x.nii.gz", "label": "./labelsTr/case0.nii.gz"}])


def entry_hidden(source: Path) -> None:
    describe(source, training=[{"image": "./imagesTr/a/../../../x.nii.gz", "label": "./labelsTr/case0.nii.gz"}])


def entry_twice(source: Path) -> None:
    entry = {"image": "./imagesTr/case0.nii.gz", "label": "./labelsTr/case0.nii.gz"}
    describe(source, training=[entry, entry])


def entry_gone(source: Path) -> None:
    (source / "imagesTr" / "case1.nii.gz").unlink()


def entry_odd(source: Path) -> None:
    describe(source, training=[{"image": "./imagesTr/case0.nii.gz"}])


DECATHLON: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("F50 climbing", entry_outside, "unsafe_path", "which leads outside"),
    ("F50 absolute", entry_absolute, "unsafe_path", "which leads outside"),
    ("F50 hidden", entry_hidden, "unsafe_path", "which leads outside"),
    ("F48", entry_twice, "duplicate_case", "is listed twice"),
    ("F04", entry_gone, "missing_file", "1 of 3 cases lack a file that dataset.json lists: case1"),
    ("F52", entry_odd, "bad_entry", "entry 0 of 'training' is not understood"),
]


@pytest.mark.parametrize(("fault", "code", "sentence"), [row[1:] for row in DECATHLON], ids=[r[0] for r in DECATHLON])
def test_decathlon(tmp_path: Path, fault: Callable[[Path], None], code: str, sentence: str) -> None:
    source = decathlon(tmp_path, IDS)
    fault(source)
    error = refused(source)
    assert (error.exit_code, error.code) == (BAD_DATA, code)
    assert error.file
    assert sentence in error.what


def test_hanseg_without_a_ct(tmp_path: Path) -> None:
    source = hanseg(tmp_path, {"case_01": ("Brainstem",), "case_02": ("Brainstem",)})
    (source / "set_1" / "case_02" / "case_02_IMG_CT.nrrd").unlink()
    assert refused(source).what == "1 of 2 cases lack the CT: case_02"
    assert len(import_dataset(source, "study", options=ImportOptions(skip=("case_02",))).cases) == 1


def test_hanseg_file_in_the_wrong_folder(tmp_path: Path) -> None:
    source = hanseg(tmp_path, {"case_01": ("Brainstem",), "case_02": ("Brainstem",)})
    stray = source / "set_1" / "case_01" / "case_02_OAR_Larynx.seg.nrrd"
    shutil.copy(source / "set_1" / "case_02" / "case_02_OAR_Brainstem.seg.nrrd", stray)
    error = refused(source)
    assert (error.case, error.file, error.what) == ("case_01", str(stray), "belongs to case_02")


def test_f49_litter_is_ignored(tmp_path: Path) -> None:
    source = nnunet(tmp_path, IDS)
    for name in ("._case0_0000.nii.gz", ".DS_Store", "Thumbs.db"):
        (source / "imagesTr" / name).write_bytes(b"litter")
        (source / "labelsTr" / name.replace("_0000", "")).write_bytes(b"litter")
    assert len(import_dataset(source, "study", options=ImportOptions()).cases) == 3


def test_f52_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    source = nnunet(tmp_path, IDS)
    text = (source / "dataset.json").read_text()
    (source / "dataset.json").write_text(text, encoding="utf-8-sig")
    assert len(import_dataset(source, "study", options=ImportOptions()).cases) == 3


def test_f20_inverted_labels_are_understood(tmp_path: Path) -> None:
    source = nnunet(tmp_path, IDS)
    describe(source, labels={"0": "background", "1": "liver", "2": "spleen"})
    dataset = import_dataset(source, "study", options=ImportOptions())
    assert [item.name for item in dataset.labels.structures] == ["liver", "spleen"]


def test_f51_an_unsafe_data_set_name(tmp_path: Path) -> None:
    assert refused(nnunet(tmp_path, IDS), name="../x").code == "unsafe_name"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_f53_few_cases(tmp_path: Path, count: int) -> None:
    ids = [f"h{n}" for n in (1, 3, 5, 7)[:count]]
    dataset = import_dataset(nnunet(tmp_path, ids), "study", options=ImportOptions())
    assert [fold.name for fold in dataset.folds] == [*(str(n) for n in range(count) if count > 1), "all"]
    assert any("one patient" in note or f"{count} folds instead of 5" in note for note in dataset.notes)


def test_f54_a_patient_in_training_and_test_is_warned_of(tmp_path: Path) -> None:
    ids = ["patient1_a", "patient1_b", "patient2_a", "patient3_a"]
    dataset = import_dataset(nnunet(tmp_path, ids), "study", options=ImportOptions(test_cases=("patient1_b",)))
    assert any(note.startswith("Warning: 1 patients have test scans and training scans") for note in dataset.notes)


def test_unknown_layout_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    error = refused(tmp_path)
    assert error.what == "no known layout; it holds photos/"
    assert all(word in error.fix for word in ("nnU-Net", "Decathlon", "HaN-Seg"))
    assert refused(tmp_path / "absent").what == "does not exist"


@pytest.mark.parametrize("options", [ImportOptions(skip=("case9",)), ImportOptions(test_cases=("case9",))])
def test_a_slip_of_the_pen_is_not_ignored(tmp_path: Path, options: ImportOptions) -> None:
    error = refused(nnunet(tmp_path, IDS), options)
    assert (error.exit_code, error.what) == (USAGE, "there is no case 'case9'")
    assert "Did you mean case2" in error.fix or "Did you mean case" in error.fix


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    source = nnunet(tmp_path, IDS)
    assert refused(source, ImportOptions(skip=IDS)).code == "no_cases"
    assert refused(source, ImportOptions(test_cases=IDS)).code == "no_cases"
