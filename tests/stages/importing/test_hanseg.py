from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import MaskSource
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.hanseg import read, recognise
from tests.stages.importing.writers import hanseg

ORGANS = ("Bone_Mandible", "brainstem", "Cochlea_L", "Cochlea_R")


def test_names_are_sorted_without_regard_to_case(tmp_path: Path) -> None:
    draft = read(hanseg(tmp_path, {"case_01": ORGANS[2:], "case_02": ORGANS}), ImportOptions())
    assert [item.name for item in draft.labels.structures] == list(ORGANS)
    assert draft.labels.mirror_pairs == ((3, 4),)
    assert [(c.name, c.kind, c.optional) for c in draft.channels] == [("CT", "ct", False), ("MR_T1", "mr", False)]


def test_an_organ_without_a_file_is_not_annotated(tmp_path: Path) -> None:
    first, second = read(hanseg(tmp_path, {"case_01": ORGANS[2:], "case_02": ORGANS}), ImportOptions()).cases
    assert first.annotated == ("Cochlea_L", "Cochlea_R")
    assert second.annotated is None


def test_the_larger_organ_is_painted_first(tmp_path: Path) -> None:
    (case,) = read(hanseg(tmp_path, {"case_01": ("Arytenoid", "Bone_Mandible")}), ImportOptions()).cases
    assert isinstance(case.labels, MaskSource)
    assert [mask.value for mask in case.labels.masks] == [2, 1]


@pytest.mark.parametrize("below", ["", "set_1"])
def test_either_folder_may_be_given(tmp_path: Path, below: str) -> None:
    source = hanseg(tmp_path, {"case_01": ORGANS}) / below
    assert recognise(source)
    assert [case.id for case in read(source, ImportOptions()).cases] == ["case_01"]


def test_mr_goes_onto_the_ct(tmp_path: Path) -> None:
    source = hanseg(tmp_path, {"case_01": ORGANS, "case_02": ORGANS})
    plain = import_dataset(source, "h", options=ImportOptions())
    moved = import_dataset(source, "h", options=ImportOptions(register=("MR_T1",)))
    assert [(c.kind, c.channel) for c in plain.corrections] == [("resample_to_first", "MR_T1"), ("orient", None)]
    assert [(c.kind, c.channel) for c in moved.corrections] == [("register_to_first", "MR_T1"), ("orient", None)]


def test_a_missing_mr_makes_the_channel_optional(tmp_path: Path) -> None:
    hanseg(tmp_path, {"case_01": ORGANS, "case_02": ORGANS})
    (tmp_path / "set_1" / "case_02" / "case_02_IMG_MR_T1.nrrd").unlink()
    draft = read(tmp_path, ImportOptions())
    assert draft.channels[1].optional
    assert list(draft.cases[1].images) == ["CT"]
