from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import motions
from autoseg.pipeline import preparing
from autoseg.stages.importing import ImportOptions
from autoseg.stages.reporting import registrations
from autoseg.workspace import Workspace
from tests.stages.importing.writers import nnunet, write_nifti

IDS = ("a", "b", "c")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """Three cases whose second channel is the first one, inverted and 3 voxels away; of the last it is constant."""
    source = nnunet(tmp_path / "raw", list(IDS), channels=("T1", "T2"))
    z, y, x = np.indices((16, 24, 24))
    for id in IDS:
        ball = 100 * np.exp(-(((z - 8) / 3) ** 2 + ((y - 11) / 5) ** 2 + ((x - 12) / 6) ** 2)).astype(np.float32)
        other = np.full_like(ball, 7) if id == "c" else 150 - np.roll(ball, 3, axis=2)
        write_nifti(source / "imagesTr" / f"{id}_0000.nii.gz", ball)
        write_nifti(source / "imagesTr" / f"{id}_0001.nii.gz", other)
        write_nifti(source / "labelsTr" / f"{id}.nii.gz", (ball > 50).astype(np.uint8))
    work = Workspace(tmp_path / "w" / "study")
    preparing.import_dataset(source, work, ImportOptions(register=("T2",)))
    return work


def test_each_registration_is_searched_for_once_kept_and_shown(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = preparing.check(work, workers=1)
    said = [problem for problem in report.problems if "registration found nothing better" in problem.what]
    assert [problem.case for problem in said] == ["c"]
    monkeypatch.setattr(motions, "_search", lambda *args, **more: pytest.fail("searched again"))
    assert preparing.check(work, workers=1) == report
    (found,) = registrations.registrations(work)
    assert (found.channel, found.onto, found.undone) == ("T2", "T1", 1)
    shifts = {motion.case: motion.shift_mm for motion in found.motions}
    assert shifts["a"] == pytest.approx(3.0, abs=0.3)
    assert shifts["c"] == 0.0
    assert found.pictures
    assert all(picture.startswith("data:image/png") for picture in found.pictures.values())


def test_a_damaged_record_and_a_changed_image_are_searched_for_again(work: Workspace) -> None:
    preparing.check(work, workers=1)
    first, *_ = sorted(work.registrations.glob("*.json"))
    before = first.read_bytes()
    first.write_bytes(before[:40])
    preparing.check(work, workers=1)
    assert first.read_bytes() == before
    image = Path(work.dataset().case("a").images["T2"].files()[0])
    z, y, x = np.indices((16, 24, 24))
    ball = 100 * np.exp(-(((z - 8) / 3) ** 2 + ((y - 11) / 5) ** 2 + ((x - 12) / 6) ** 2)).astype(np.float32)
    write_nifti(image, 150 - np.roll(ball, -2, axis=2))
    preparing.check(work, workers=1)
    (found,) = registrations.registrations(work)
    assert {motion.case: motion.shift_mm for motion in found.motions}["a"] == pytest.approx(2.0, abs=0.3)


def test_nothing_is_shown_where_nothing_was_registered(work: Workspace, tmp_path: Path) -> None:
    plain = Workspace(tmp_path / "w" / "plain")
    preparing.import_dataset(Path(work.dataset().source), plain, ImportOptions())
    assert registrations.registrations(plain) == []


def test_a_fit_is_mutual_information() -> None:
    assert registrations.fit(-0.25) == "0.250"
    assert registrations.fit(float("inf")) == "none"
