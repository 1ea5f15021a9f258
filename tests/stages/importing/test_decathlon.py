from __future__ import annotations

from pathlib import Path

from autoseg.records.dataset import FileSource
from autoseg.stages.importing import ImportOptions
from autoseg.stages.importing.decathlon import read, recognise
from tests.stages.importing.writers import decathlon, nnunet


def test_modalities_are_volumes_of_one_file(tmp_path: Path) -> None:
    draft = read(decathlon(tmp_path, ["BRATS_001"]), ImportOptions())
    path = str(tmp_path / "imagesTr" / "BRATS_001.nii.gz")
    assert draft.cases[0].images == {"FLAIR": FileSource(path=path, volume=0), "T1w": FileSource(path=path, volume=1)}
    assert [channel.kind for channel in draft.channels] == ["mr", "mr"]


def test_one_modality_is_the_whole_file(tmp_path: Path) -> None:
    draft = read(decathlon(tmp_path, ["x_1"], modalities=("CT",)), ImportOptions())
    source = draft.cases[0].images["CT"]
    assert isinstance(source, FileSource)
    assert source.volume is None


def test_labels_are_turned_around_without_a_note(tmp_path: Path) -> None:
    draft = read(decathlon(tmp_path, ["x_1"]), ImportOptions())
    assert {item.name: item.original for item in draft.labels.structures} == {"edema": 1, "enhancing tumour": 2}
    assert draft.notes == ()


def test_nnunet_is_not_taken_for_it(tmp_path: Path) -> None:
    pairs = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    assert not recognise(nnunet(tmp_path, ["a"], training=pairs))


def test_damaged_description_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    assert not recognise(tmp_path)
