"""From a typed command to maps of what a model looks at, and to the page about one case."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from autoseg.images import files
from autoseg.workspace import Workspace
from tests.command_line import done, typed
from tests.conftest import WholeWay


@pytest.fixture
def knot(whole_way: WholeWay, tmp_path: Path) -> Workspace:
    shutil.copytree(whole_way.folder, tmp_path / "Knot")
    return Workspace(tmp_path / "Knot")


def test_a_map_lies_in_the_scans_geometry_and_is_the_same_again(knot: Workspace) -> None:
    case = knot.dataset().fold("0").held_out[0]
    words = ("explain-case", "-d", knot.folder, "--case", case, "--structure", "core")
    said = done(*words).out
    page = Path(said.strip())
    folder = page.parent
    assert page.name == "explained.html"
    assert folder.parent == knot.explained("default", case)
    assert re.fullmatch(r"default_smoke_[23]d_base_s0_fold_0_gradient", folder.name)
    assert {file.suffix for file in folder.iterdir()} == {".html", ".png", ".gz"}
    field, grid = files.read_volume(folder / "gradient_core.nii.gz")
    scan = Path(knot.dataset().case(case).files()[0])
    assert grid.difference(files.read_header(scan).grid) is None
    assert field.min() >= 0
    assert field.max() in (0.0, 1.0)
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    done(*words)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_what_cannot_be_explained_is_said_in_one_line(knot: Workspace) -> None:
    case = knot.dataset().fold("0").held_out[0]
    explain = ("explain-case", "-d", knot.folder, "--case")
    refused = typed(*explain, case, "--method", "attention")
    assert refused.code == 2
    assert "there is no attention to roll out" in refused.said
    assert "no structure 'spleen' is predicted" in typed(*explain, case, "--structure", "spleen").said
    assert "no model 'nobody' was trained" in typed(*explain, case, "--model", "nobody").said
    assert "has no case 'nowhere'" in typed(*explain, "nowhere").said


def test_the_page_about_one_case_shows_its_figures(knot: Workspace) -> None:
    case = knot.dataset().fold("1").held_out[0]
    said = done("report", "-d", knot.folder, "--case", case).said
    file = knot.case_report_file("default", case)
    assert said.strip() == str(file)
    page = file.read_text()
    assert f"<h1>{case}</h1>" in page
    assert "held out in fold 1" in page
    for heading in ("The whole case", "Structures", "Failures", "Each model on this case"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/png;base64,") >= 2
    assert 'id="three-canvas"' in page
    assert "<td>core</td>" in page


def test_a_case_without_a_held_out_prediction_is_named_with_those_that_have_one(knot: Workspace) -> None:
    choice = knot.ensemble("default") / "evaluation.json"
    evaluation = choice.read_text()
    case = knot.dataset().cases[0].id
    choice.write_text(evaluation.replace(f'"case": "{case}"', '"case": "gone"'))
    refused = typed("report", "-d", knot.folder, "--case", case)
    assert refused.code == 2
    assert f"has no held-out prediction of case {case}" in refused.said


def test_the_report_has_every_part(knot: Workspace) -> None:
    done("report", "-d", knot.folder)
    page = knot.report_file("default").read_text()
    for heading in ("Structures", "Training", "The data", "Class sizes", "Odd cases", "The plan, and why"):
        assert f">{heading}</h2>" in page
    assert "Which can be trusted most" in page
    for model in knot.trained("default"):
        assert model.key() in page
