"""The data alone: every case is measured as it is, and what cannot be read is named and stops nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.pipeline import preparing
from autoseg.records.exploration import QUANTILES
from autoseg.stages import exploring
from autoseg.stages.importing import ImportOptions
from autoseg.workspace import Workspace
from tests.stages.importing.writers import nnunet, write_nifti

IDS = ("a", "b", "c")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    source = nnunet(tmp_path / "raw", list(IDS), labels={"background": 0, "core": 1, "rim": 5})
    for number, id in enumerate(IDS):
        image = np.zeros((4, 6, 8), np.float32)
        image[:2] = 10 + number
        image[0, 0, :4] = 50
        labels = np.zeros((4, 6, 8), np.uint8)
        labels[0, 0, :4] = 5
        labels[1, :, :] = 1 if id != "c" else 0
        write_nifti(source / "imagesTr" / f"{id}_0000.nii.gz", image, 2.0)
        write_nifti(source / "labelsTr" / f"{id}.nii.gz", labels, 2.0)
    work = Workspace(tmp_path / "w" / "study")
    preparing.import_dataset(source, work, ImportOptions(folds=2))
    return work


def test_a_case_is_measured_by_hand(work: Workspace) -> None:
    found = exploring.explore(work.dataset(), workers=1)
    first = found.cases[0]
    assert (first.id, first.shape, first.spacing_mm) == ("a", (4, 6, 8), (2.0, 2.0, 2.0))
    assert first.volumes_ml == pytest.approx({"core": 48 * 0.008, "rim": 4 * 0.008})
    (channel,) = first.channels
    # Half of the scan is 0 and left out: of 96 voxels 92 are 10 and 4 are 50.
    assert channel.quantiles[QUANTILES.index(0.5)] == 10
    assert channel.quantiles[QUANTILES.index(0.995)] == 50
    assert channel.structure_medians == {"core": 10.0, "rim": 50.0}
    assert found.cases[2].volumes_ml["core"] == 0.0
    assert "core" not in found.cases[2].channels[0].structure_medians


def test_what_cannot_be_read_is_named_and_the_others_are_there(work: Workspace) -> None:
    dataset = work.dataset()
    Path(dataset.case("b").images["CT"].files()[0]).write_bytes(b"no image")
    found = exploring.explore(dataset, workers=1)
    assert [case.id for case in found.cases] == ["a", "c"]
    assert list(found.unread) == ["b"]
    assert "b_0000.nii.gz" in found.unread["b"]


def test_workers_change_nothing(work: Workspace) -> None:
    assert exploring.explore(work.dataset(), workers=2) == exploring.explore(work.dataset(), workers=1)
