"""The page about the data says which case is odd and why, escapes names, and needs no training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoseg.pipeline import running
from autoseg.records.exploration import Exploration, ExploredCase, ExploredChannel
from autoseg.stages.reporting import data_figures, data_section, oddness
from autoseg.workspace import Workspace
from tests.command_line import done
from tests.conftest import WholeWay


def explored(id: str, *, volume: float = 4.0, spacing: float = 1.0, level: float = 100.0) -> ExploredCase:
    quantiles = tuple(level + away for away in (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0))
    return ExploredCase(
        id=id,
        shape=(40, 50, 60),
        spacing_mm=(spacing, 1.0, 1.0),
        volumes_ml={"core": volume},
        channels=(ExploredChannel(channel="CT", quantiles=quantiles),),
    )


def study(*more: ExploredCase) -> Exploration:
    usual = [explored(f"usual_{n}", volume=4.0 + 0.01 * n, level=100.0 + n) for n in range(9)]
    return Exploration(dataset_digest="d", cases=(*usual, *more))


def test_each_kind_of_oddness_is_said_with_its_numbers() -> None:
    strange = (explored("thick", spacing=5.0), explored("small", volume=0.4), explored("bright", level=900.0))
    found = {item.case: item for item in oddness.odd_cases(study(*strange))}
    assert set(found) == {"thick", "small", "bright"}
    assert found["thick"].what == "spacing along z 5 mm, in the median case 1 mm"
    assert found["thick"].more == ("field of view along z",)
    assert found["small"].what.startswith("volume of core 0.4 ml, in the median case 4.0")
    assert found["bright"].what.startswith("median of CT 900, in the median case 10")


def test_equal_cases_are_not_odd_and_four_cannot_be_compared() -> None:
    assert oddness.odd_cases(study(explored("a little thicker", spacing=1.05))) == []
    few = Exploration(dataset_digest="d", cases=tuple(explored(str(n), volume=10.0**n) for n in range(4)))
    assert oddness.odd_cases(few) == []


def test_co_occurrence_is_counted_where_both_were_annotated() -> None:
    def holding(id: str, **volumes: float) -> ExploredCase:
        return explored(id).model_copy(update={"volumes_ml": volumes})

    cases = (holding("1", a=1.0, b=1.0), holding("2", a=1.0, b=0.0), holding("3", a=1.0))
    both, whole = data_figures.co_occurrence(Exploration(dataset_digest="d", cases=cases), ("a", "b"))
    assert both.tolist() == [[3, 1], [1, 1]]
    assert whole.tolist() == [[3, 2], [1, 1]]
    assert not data_figures.nothing_to_tell((both, whole))


@pytest.fixture
def knot(whole_way: WholeWay, tmp_path: Path) -> Workspace:
    shutil.copytree(whole_way.folder, tmp_path / "Knot")
    return Workspace(tmp_path / "Knot")


def test_the_page_needs_no_training_and_is_made_again_only_where_something_changed(knot: Workspace) -> None:
    for stage in ("models", "plans", "ensemble", "preprocessed"):
        shutil.rmtree(knot.folder / stage)
    said = done("explore", "-d", knot.folder).out
    assert said.strip().endswith("explore.html")
    page = knot.explore_file.read_text()
    for heading in ("Shapes and spacings", "Intensities", "Class sizes", "Odd cases", "Which come together"):
        assert f">{heading}<" in page
    assert page.count("data:image/png;base64,") >= 6
    assert "http://" not in page
    assert "https://" not in page
    kept = knot.exploration_file.stat().st_mtime_ns
    running.explore(knot)
    assert knot.exploration_file.stat().st_mtime_ns == kept
    assert knot.explore_file.read_text() == page


def test_names_from_files_are_escaped(knot: Workspace) -> None:
    dataset = knot.dataset()
    evil = dataset.model_copy(update={"notes": ("<script>alert(1)</script>",)})
    knot.dataset_file.write_text(evil.to_json())
    assert "<script>alert(1)" not in running.explore(knot).read_text()


def test_the_pictures_show_the_usual_and_the_odd(knot: Workspace) -> None:
    dataset = knot.dataset()
    cases = tuple(explored(case.id) for case in dataset.cases)
    shown = data_section._pictures(dataset, Exploration(dataset_digest="d", cases=cases), knot.registrations, 2)
    assert len(shown) == 2
    assert all(item.picture.startswith("data:image/png") for item in shown)
