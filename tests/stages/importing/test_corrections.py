from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.dataset import Correction
from autoseg.records.errors import UsageError
from autoseg.stages.importing import ImportOptions, import_dataset
from tests.stages.importing.writers import nnunet, voxels, write_nifti


def chain(source: Path, options: ImportOptions = ImportOptions()) -> tuple[Correction, ...]:  # noqa: B008
    return import_dataset(source, "study", options=options).corrections


def test_orientation_is_always_settled(tmp_path: Path) -> None:
    assert [item.kind for item in chain(nnunet(tmp_path, ["a", "b"]))] == ["orient"]


def test_values_that_are_not_consecutive_are_remapped(tmp_path: Path) -> None:
    nnunet(tmp_path, ["a"], labels={"background": 0, "x": 1, "y": 5}, values=(1, 5))
    assert "5 -> 2" in chain(tmp_path)[-1].because


def test_a_channel_on_another_grid_is_resampled(tmp_path: Path) -> None:
    nnunet(tmp_path, ["a", "b"], channels=("CT", "PET"))
    write_nifti(tmp_path / "imagesTr" / "b_0001.nii.gz", voxels(1, (3, 4, 5)), spacing=2.0)
    first = chain(tmp_path)[0]
    assert (first.kind, first.channel) == ("resample_to_first", "PET")
    assert "in 1 of 2 cases (b); b: shape (3, 4, 5) instead of (6, 8, 10)" in first.because
    registered = chain(tmp_path, ImportOptions(register=("PET",)))
    assert [item.kind for item in registered] == ["register_to_first", "orient"]


@pytest.mark.parametrize(("fill", "value"), [("min", None), ("0", 0.0), (-1024, -1024.0)])
def test_filling(tmp_path: Path, fill: str | float, value: float | None) -> None:
    first = chain(nnunet(tmp_path, ["a"]), ImportOptions(fill_nan=fill, resample_labels=True))
    assert [item.kind for item in first] == ["fill_nan", "resample_labels", "orient"]
    assert first[0].value == value


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ImportOptions(register=("CT",)), "is the first one"),
        (ImportOptions(register=("T9",)), "there is no channel 'T9'"),
        (ImportOptions(fill_nan="max"), "cannot become 'max'"),
    ],
)
def test_wrong_wishes(tmp_path: Path, options: ImportOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        chain(nnunet(tmp_path, ["a"]), options)
