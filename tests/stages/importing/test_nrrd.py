from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.stages.importing.nrrd import mask_extent_mm3
from tests.stages.importing.writers import blob, write_nrrd


def test_extent_of_the_segment_counts_in_mm3(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "m.seg.nrrd", blob(1), spacing=2.0, extent="1 2 0 2 5 5")
    assert mask_extent_mm3(tmp_path / "m.seg.nrrd") == pytest.approx(2 * 3 * 1 * 8)


def test_without_an_extent_the_array_counts(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "m.seg.nrrd", blob(1), spacing=0.5)
    assert mask_extent_mm3(tmp_path / "m.seg.nrrd") == pytest.approx(6 * 8 * 10 / 8)


def test_damage_is_no_business_of_it(tmp_path: Path) -> None:
    (tmp_path / "m.nrrd").write_bytes(b"<html>")
    assert mask_extent_mm3(tmp_path / "m.nrrd") == 0
    assert mask_extent_mm3(tmp_path / "absent.nrrd") == 0
