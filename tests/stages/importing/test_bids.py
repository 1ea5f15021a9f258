from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images.cases import read_image, read_labels
from autoseg.records.dataset import FileSource, MaskSource
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.bids import read
from tests.command_line import done
from tests.stages.importing.published import bids
from tests.stages.importing.writers import blob, voxels, write_nifti


def test_a_real_data_set_is_imported_and_passes_the_check(real_data: Path, tmp_path: Path) -> None:
    words = ("--root", tmp_path)
    said = done("import", real_data / "spleen_crop_bids", "--as", "Spleen", "--json", *words).json()
    assert said["layout"] == "bids"
    assert [(c["name"], c["kind"]) for c in said["channels"]] == [("ct", "ct")]
    assert [(c["id"], c["group"], c["attributes"]) for c in said["cases"]] == [("sub-spleen2", "sub-spleen2", {})]
    assert [s["name"] for s in said["labels"]["structures"]] == ["foreground"]
    assert done("check", "-d", "Spleen", "--workers", 1, *words).code == 0


def test_labelled_channel_comes_first_and_values_are_looked_up(tmp_path: Path) -> None:
    draft = read(bids(tmp_path, ["01", "02"]), ImportOptions())
    assert [(c.name, c.kind) for c in draft.channels] == [("T1w", "mr"), ("FLAIR", "mr")]
    assert [s.name for s in draft.labels.structures] == ["class_1", "class_2"]
    assert any("2 of 2 label files hold" in note for note in draft.notes)


def test_facts_without_names_of_people(tmp_path: Path) -> None:
    assert read(bids(tmp_path, ["01", "02"]), ImportOptions()).cases[1].attributes == {
        "sex": "M",
        "institution_id": "A",
    }


def test_sessions_of_a_subject_are_one_group(tmp_path: Path) -> None:
    for session in ("a", "b"):
        bids(tmp_path, ["01", "02", "03"], session=session)
    dataset = import_dataset(tmp_path, "study", options=ImportOptions(folds=3))
    assert [(case.id, case.group) for case in dataset.cases[:2]] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
    ]
    assert all(len(fold.held_out) == 2 for fold in dataset.folds[:-1])


@pytest.mark.parametrize("table", ["derivatives/labels/dseg.tsv", "derivatives/labels/desc-manual_dseg.tsv"])
def test_values_are_named_by_a_table(tmp_path: Path, table: str) -> None:
    bids(tmp_path, ["01"], label="{case}_space-T1w_desc-manual_dseg")
    (tmp_path / table).write_text("index\tname\tcolor\n0\tbackground\t#000\n2\tputamen\t#fff\n1\tcaudate\t#eee\n")
    draft = read(tmp_path, ImportOptions())
    assert [(s.name, s.original) for s in draft.labels.structures] == [("caudate", 1), ("putamen", 2)]
    assert isinstance(draft.cases[0].labels, FileSource)


def test_a_table_of_another_description_does_not_count(tmp_path: Path) -> None:
    bids(tmp_path, ["01"], label="{case}_desc-manual_dseg")
    (tmp_path / "derivatives" / "desc-atlas_dseg.tsv").write_text("index\tname\n1\tx\n2\ty\n")
    assert [s.name for s in read(tmp_path, ImportOptions()).labels.structures] == ["class_1", "class_2"]


def test_masks_are_named_by_their_label(tmp_path: Path) -> None:
    bids(tmp_path, ["01", "02"], label="{case}_label-lesion_mask")
    anat = tmp_path / "derivatives" / "labels" / "sub-01" / "anat"
    write_nifti(anat / "sub-01_hemi-L_label-thalamus_mask.nii.gz", np.roll(blob(1), 5, axis=2))
    first, second = read(tmp_path, ImportOptions()).cases
    draft = read(tmp_path, ImportOptions())
    assert [s.name for s in draft.labels.structures] == ["lesion", "thalamus_L"]
    assert first.annotated is None
    assert second.annotated == ("lesion",)
    assert isinstance(first.labels, MaskSource)
    image = read_image(first.images, draft.channels, (), case="sub-01")
    array = read_labels(first.labels, draft.labels, image.grid, case="sub-01").array
    assert [int((array == value).sum()) for value in (1, 2)] == [16, 8]


def test_labels_in_a_standard_space_are_passed_over(tmp_path: Path) -> None:
    bids(tmp_path, ["01"])
    write_nifti(tmp_path / "derivatives" / "x" / "sub-01_space-MNI152_dseg.nii.gz", blob(1))
    draft = read(tmp_path, ImportOptions())
    assert any("1 label files lie in another space" in note for note in draft.notes)
    assert isinstance(draft.cases[0].labels, FileSource)
    assert "seg-manual" in draft.cases[0].labels.path


def test_labels_on_the_less_common_channel_and_unlabelled_scans_are_said(tmp_path: Path) -> None:
    bids(tmp_path, ["01", "02"])
    write_nifti(tmp_path / "derivatives" / "labels" / "sub-01" / "anat" / "sub-01_FLAIR_seg-manual.nii.gz", blob(1))
    write_nifti(tmp_path / "sub-03" / "anat" / "sub-03_T1w.nii.gz", voxels(7))
    draft = read(tmp_path, ImportOptions())
    assert [case.id for case in draft.cases] == ["sub-01", "sub-02"]
    assert all(case.labels is not None and "T1w_seg" in case.labels.files()[0] for case in draft.cases)
    assert any("those on FLAIR (1 cases) were not" in note for note in draft.notes)
    assert any("1 scans have no labels and were left out: sub-03" in note for note in draft.notes)


def test_contradicting_tables_are_refused(tmp_path: Path) -> None:
    bids(tmp_path, ["01", "02"], label="{case}_dseg")
    for subject, name in (("01", "liver"), ("02", "spleen")):
        place = tmp_path / "derivatives" / "labels" / f"sub-{subject}" / "anat"
        (place / f"sub-{subject}_dseg.tsv").write_text(f"index\tname\n1\t{name}\n")
    with pytest.raises(DataError, match="calls 1 'spleen', elsewhere it is 'liver'"):
        read(tmp_path, ImportOptions())


def test_no_labels_at_all(tmp_path: Path) -> None:
    bids(tmp_path, ["01"], label="{case}_probseg")
    with pytest.raises(DataError, match="no subject has labels"):
        read(tmp_path, ImportOptions())
