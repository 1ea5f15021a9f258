"""TG-263 names from what people write, and SNOMED codes that exist."""

from __future__ import annotations

import csv
from importlib import resources

import pytest
from pydicom.sr.codedict import codes

from autoseg.images.dicom.names import code_of, standard_name, suggest


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Parotid_L", "Parotid_L"), ("left parotid gland", "Parotid_L"), ("PAROTIS LI", "Parotid_L"),
        ("SpinalCord", "SpinalCord"), ("spinal cord", "SpinalCord"), ("Myelon", "SpinalCord"),
        ("kidney_right", "Kidney_R"), ("KidneyRight", "Kidney_R"), ("Lungs", "Lungs"), ("oesophagus", "Esophagus"),
        ("Femoral Head Left", "Femur_Head_L"), ("Eye_AL", "Eye_AL"), ("Optic nerve R", "OpticNrv_R"),
        ("PTV_60", None), ("tumor_core", None),
    ],
)  # fmt: skip
def test_names(written: str, name: str | None) -> None:
    assert standard_name(written) == name


def test_suggestions_for_what_is_misspelt() -> None:
    assert suggest("livr") == "Liver"
    assert suggest("Parotis li opt") == "Parotid_L"
    assert suggest("PTV 60") is None


def test_every_code_of_the_table_exists_and_no_name_is_another_ones_synonym() -> None:
    text = resources.files("autoseg.images.dicom").joinpath("tg263.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len({row["name"] for row in rows}) == len(rows) > 80
    for row in rows:
        assert not row["sct"] or getattr(codes.SCT, row["sct"]).value
        for side in ("L", "R"):
            name = row["name"].replace("{}", side)
            assert standard_name(name) == name
            for synonym in filter(None, row["also"].split("|")):
                plain = synonym.replace("{}", side)
                assert standard_name(plain) == name, plain
    assert code_of("liver").meaning == "Liver"
    assert code_of("gizmo").meaning == "Tissue"
