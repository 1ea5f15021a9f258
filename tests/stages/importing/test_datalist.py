from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoseg.records.dataset import FileSource
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.datalist import read, recognise
from tests.stages.importing.published import datalist
from tests.stages.importing.writers import blob, write_json, write_nifti

IDS = ["a", "b", "c", "d"]


def change(folder: Path, **more: object) -> None:
    file = folder / "datalist.json"
    write_json(file, json.loads(file.read_text()) | more)


def entries(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "datalist.json").read_text())["training"]


def test_file_and_folder_give_the_same(tmp_path: Path) -> None:
    folder = datalist(tmp_path, IDS)
    whole = import_dataset(folder, "s", options=ImportOptions())
    one = import_dataset(folder / "datalist.json", "s", options=ImportOptions())
    assert one.layout == "datalist"
    assert one.model_copy(update={"source": whole.source}) == whole


def test_listed_folds_are_the_folds(tmp_path: Path) -> None:
    dataset = import_dataset(datalist(tmp_path, IDS), "s", options=ImportOptions())
    assert [(fold.name, fold.held_out) for fold in dataset.folds] == [
        ("0", ("a", "d")),
        ("1", ("b",)),
        ("2", ("c",)),
        ("all", ()),
    ]
    assert dataset.fold("1").training == ("a", "c", "d")


def test_validation_is_a_fold_of_its_own(tmp_path: Path) -> None:
    plain = [entry | {"fold": None} for entry in entries(datalist(tmp_path, IDS))]
    change(tmp_path, training=plain[:3], validation=plain[3:])
    dataset = import_dataset(tmp_path, "s", options=ImportOptions())
    assert dataset.fold("0").held_out == ("d",)
    assert dataset.fold("0").training == ("a", "b", "c")


def test_without_folds_they_are_dealt(tmp_path: Path) -> None:
    plain = [{key: value for key, value in e.items() if key != "fold"} for e in entries(datalist(tmp_path, IDS))]
    change(tmp_path, training=plain)
    dataset = import_dataset(tmp_path, "s", options=ImportOptions(folds=2))
    assert [len(fold.held_out) for fold in dataset.folds] == [2, 2, 0]


def test_labelled_test_cases_are_locked_away(tmp_path: Path) -> None:
    listed = entries(datalist(tmp_path, IDS))
    change(tmp_path, training=listed[:3], test=listed[3:], testing=["images/z.nii.gz"])
    dataset = import_dataset(tmp_path, "s", options=ImportOptions())
    assert [case.id for case in dataset.test_cases] == ["d"]
    assert all("d" not in fold.training + fold.held_out for fold in dataset.folds)
    assert any("1 scans have no labels" in note for note in dataset.notes)


def test_channels_and_values_without_names(tmp_path: Path) -> None:
    draft = read(datalist(tmp_path, IDS), ImportOptions())
    assert [channel.name for channel in draft.channels] == ["t1", "t2"]
    assert [(s.name, s.value, s.original) for s in draft.labels.structures] == [("class_1", 1, 1), ("class_4", 2, 4)]
    assert draft.cases[0].images["t2"] == FileSource(path=str(tmp_path / "images" / "a_t2.nii.gz"))
    assert any("4 of 4 label files hold 1 = class_1, 4 = class_4" in note for note in draft.notes)


def test_names_of_the_list_win(tmp_path: Path) -> None:
    labels = {"background": 0, "cyst": 1, "tumour": 4}
    draft = read(datalist(tmp_path, IDS, labels=labels, modality={"0": "T1", "1": "T2"}), ImportOptions())
    assert [(channel.name, channel.kind) for channel in draft.channels] == [("T1", "mr"), ("T2", "mr")]
    assert [structure.name for structure in draft.labels.structures] == ["cyst", "tumour"]


def test_values_are_looked_up_in_a_bounded_number_of_files(tmp_path: Path) -> None:
    listed = []
    for number in range(30):
        write_nifti(tmp_path / f"i{number}.nii.gz", blob(1))
        write_nifti(tmp_path / f"l{number}.nii.gz", blob(1))
        listed.append({"image": f"i{number}.nii.gz", "label": f"l{number}.nii.gz"})
    write_json(tmp_path / "list.json", {"training": listed})
    assert any("20 of 30 label files hold" in note for note in read(tmp_path, ImportOptions()).notes)


def test_equal_file_names_take_their_folders(tmp_path: Path) -> None:
    for person in ("p1", "p2"):
        for name in ("t1", "t2", "seg"):
            write_nifti(tmp_path / person / f"{name}.nii.gz", blob(1))
    listed = [{"image": [f"{p}/t1.nii.gz", f"{p}/t2.nii.gz"], "label": f"{p}/seg.nii.gz"} for p in ("p1", "p2")]
    write_json(tmp_path / "list.json", {"training": listed})
    assert [case.id for case in read(tmp_path, ImportOptions()).cases] == ["p1", "p2"]


def test_two_lists_in_a_folder_are_not_guessed_between(tmp_path: Path) -> None:
    (datalist(tmp_path, IDS) / "other.json").write_text((tmp_path / "datalist.json").read_text())
    assert not recognise(tmp_path)
    assert recognise(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"image": "../x.nii.gz", "label": "l.nii.gz", "fold": 0}, "leads outside"),
        ({"image": "/etc/x.nii.gz", "label": "l.nii.gz", "fold": 0}, "leads outside"),
        ({"image": "x.nii.gz", "fold": 0}, "entry 1 of 'training' is not understood"),
        ({"image": "x.nii.gz", "label": "l.nii.gz", "fold": "0"}, "entry 1 of 'training' is not understood"),
        ({"image": "x.nii.gz", "label": "l.nii.gz"}, "1 of 2 cases have no fold"),
        ({"image": "x.nii.gz", "label": "l.nii.gz", "fold": 1}, "1 of 2 cases lack a file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, entry: dict[str, object], sentence: str) -> None:
    listed = entries(datalist(tmp_path, ["a"]))
    change(tmp_path, training=[*listed, entry])
    with pytest.raises(DataError) as caught:
        import_dataset(tmp_path, "s", options=ImportOptions())
    assert sentence in str(caught.value)


def test_a_case_with_fewer_channels_is_named(tmp_path: Path) -> None:
    listed = entries(datalist(tmp_path, IDS))
    listed[1]["image"] = "images/b_t1.nii.gz"
    change(tmp_path, training=listed)
    with pytest.raises(DataError, match="1 of 4 cases have fewer than 2 images: b_t1"):
        read(tmp_path, ImportOptions())


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"training": 3}')
    with pytest.raises(DataError, match="is a file that lists no cases"):
        import_dataset(tmp_path / "notes.json", "s", options=ImportOptions())
