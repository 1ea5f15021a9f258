"""F53: a data set of one patient trains "all", predicts and reports, and says that nothing was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import done
from tests.conftest import measure_little
from tests.faults import builders


def test_f53_one_case_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)
    raw, root = builders.healthy(tmp_path / "raw", cases=1), tmp_path / "workspace"
    done("import", raw, "--as", "Knot", "--root", root)
    said = done("run", "-d", "Knot", "--preset", "smoke", "--workers", 1, "--root", root).said
    assert "The data are of one patient: no case could be held out" in said
    scan = builders.image_file(raw, builders.CASES[0])
    done("predict", "-d", "Knot", "-i", scan, "-o", tmp_path / "out", "--root", root)
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
    page = (root / "Knot" / "report" / "default" / "report.html").read_text()
    assert "no score says how good this is" in page
