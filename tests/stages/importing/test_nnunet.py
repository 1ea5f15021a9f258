from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import FileSource
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions
from autoseg.stages.importing.nnunet import group_channels, read, recognise
from tests.stages.importing.writers import blob, nnunet, voxels, write_json, write_nifti


def test_channels_kinds_labels_and_sides(tmp_path: Path) -> None:
    draft = read(nnunet(tmp_path, ["a"], channels=("CT", "FDG-PET")), ImportOptions())
    assert [(c.name, c.kind) for c in draft.channels] == [("CT", "ct"), ("FDG-PET", "pet")]
    assert [(s.name, s.value, s.original) for s in draft.labels.structures] == [
        ("kidney_left", 1, 1),
        ("kidney_right", 2, 2),
    ]
    assert draft.labels.mirror_pairs == ((1, 2),)
    assert draft.cases[0].images["FDG-PET"] == FileSource(path=str(tmp_path / "imagesTr" / "a_0001.nii.gz"))


def test_version_1_is_read(tmp_path: Path) -> None:
    nnunet(tmp_path, ["a", "b"])
    write_json(
        tmp_path / "dataset.json",
        {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "x", "2": "y"},
            "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
            "numTraining": 1,
        },
    )
    assert recognise(tmp_path)
    draft = read(tmp_path, ImportOptions())
    assert [case.id for case in draft.cases] == ["a", "b"]
    assert draft.channels[0].kind == "mr"
    assert any("numTraining 1, but there are 2 cases" in note for note in draft.notes)


def test_images_without_a_number_keep_their_whole_name(tmp_path: Path) -> None:
    nnunet(tmp_path, ["case1"])
    (tmp_path / "imagesTr" / "case1_0000.nii.gz").rename(tmp_path / "imagesTr" / "case1.nii.gz")
    assert [case.id for case in read(tmp_path, ImportOptions()).cases] == ["case1"]


def test_a_year_at_the_end_is_part_of_the_id() -> None:
    files = {name: Path(name) for name in ("scan_2021", "scan_2022_0000", "plain")}
    truths = {name: Path(name) for name in ("scan_2021", "scan_2022", "plain")}
    assert group_channels(files, truths, channels=1) == {
        "scan_2021": {0: Path("scan_2021")},
        "scan_2022": {0: Path("scan_2022_0000")},
        "plain": {0: Path("plain")},
    }


def test_list_of_files_in_dataset_json(tmp_path: Path) -> None:
    write_nifti(tmp_path / "imagesTr" / "x.nii.gz", voxels(0))
    write_nifti(tmp_path / "elsewhere" / "y.nii.gz", blob(1))
    write_json(
        tmp_path / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "organ": 1},
            "dataset": {"one": {"images": ["imagesTr/x.nii.gz"], "label": "elsewhere/y.nii.gz"}},
        },
    )
    (case,) = read(tmp_path, ImportOptions()).cases
    assert case.id == "one"
    assert case.labels == FileSource(path=str(tmp_path / "elsewhere" / "y.nii.gz"))


def test_colours_of_one_picture_are_its_volumes(tmp_path: Path) -> None:
    nnunet(tmp_path, ["a"], channels=("R", "G", "B"))
    for number in (1, 2):
        (tmp_path / "imagesTr" / f"a_{number:04d}.nii.gz").unlink()
    (case,) = read(tmp_path, ImportOptions()).cases
    assert [source.volume for source in case.images.values()] == [0, 1, 2]
    assert len({source.path for source in case.images.values()}) == 1


def test_test_images_are_mentioned_and_left_alone(tmp_path: Path) -> None:
    write_nifti(nnunet(tmp_path, ["a"]) / "imagesTs" / "z_0000.nii.gz", voxels(9))
    draft = read(tmp_path, ImportOptions())
    assert [case.id for case in draft.cases] == ["a"]
    assert any("imagesTs holds 1 images" in note for note in draft.notes)


def test_an_optional_channel_may_be_missing(tmp_path: Path) -> None:
    nnunet(tmp_path, ["a", "b"], channels=("CT", "PET"))
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 2 cases lack a channel: b \(_0001\).*--optional"):
        read(tmp_path, ImportOptions())
    draft = read(tmp_path, ImportOptions(optional=("PET",)))
    assert [list(case.images) for case in draft.cases] == [["CT", "PET"], ["CT"]]
    assert draft.channels[1].optional
