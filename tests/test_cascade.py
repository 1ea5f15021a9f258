"""A cascade end to end: its second stage trains on what the first says of cases that it never saw."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.images.files import read_volume
from autoseg.images.store import read_array
from autoseg.records.configuration import Previous
from autoseg.records.plan import LineupEntry, Plan
from autoseg.storage import write_record
from autoseg.workspace import Workspace
from tests.command_line import done, refused
from tests.conftest import WholeWay, measure_little
from tests.faults import builders


def cascade(plan: Plan) -> Plan:
    """The plan's 3D configuration in two stages: at twice the spacing, and again with what that found."""
    fine = plan.configuration("smoke_3d")
    spacing = tuple(2 * mm for mm in fine.spacing_mm if mm is not None)
    coarse = fine.model_copy(update={"name": "coarse", "spacing_mm": spacing, "data_key": "coarse"})
    inputs = fine.architecture.input_channels + len(plan.labels.structures)
    architecture = fine.architecture.model_copy(update={"input_channels": inputs})
    second = fine.model_copy(
        update={"name": "fine", "architecture": architecture, "previous": Previous(configuration="coarse")}
    )
    lineup = tuple(LineupEntry(configuration=name, share=0.5) for name in ("coarse", "fine"))
    return plan.model_copy(update={"name": "steps", "configurations": (coarse, second), "lineup": lineup})


def planned(whole_way: WholeWay, folder: Path) -> Workspace:
    """Copy the workspace and plan a cascade in it."""
    shutil.copytree(whole_way.root, folder / "workspace")
    work = Workspace.locate("Knot", folder / "workspace")
    write_record(work.plan_file("steps"), cascade(work.plan()))
    return work


@pytest.fixture(scope="module")
def work(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Both stages trained in both folds."""
    work = planned(whole_way, tmp_path_factory.mktemp("cascade"))
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        done("train", "-d", "Knot", "--plan", "steps", "--root", work.folder.parent)
    return work


def test_both_stages_train_select_and_predict(work: Workspace, whole_way: WholeWay, tmp_path: Path) -> None:
    root = work.folder.parent
    trained = [model.key() for model in work.trained("steps")]
    assert trained == [f"steps/{stage}/base_s0/fold_{fold}" for stage in ("coarse", "fine") for fold in (0, 1)]
    choice = done("ensemble", "-d", "Knot", "--plan", "steps", "--json", "--root", root).json()
    assert {name.split("/")[1] for item in choice["candidates"] for name in item["members"]} == {"coarse", "fine"}
    scan = builders.image_file(whole_way.raw, builders.CASES[0])
    done(
        *("predict", "-d", "Knot", "--plan", "steps", "-m", "steps/fine/base_s0"),
        *("-i", scan, "-o", tmp_path / "out", "--root", root),
    )
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    array, grid = read_volume(written)
    assert grid.difference(read_volume(scan)[1]) is None
    assert set(np.unique(array)) <= {0, 1, 5}
    model = tmp_path / "model.zip"
    done("export", "-d", "Knot", "--plan", "steps", "-m", "steps/fine/base_s0", "-o", model, "--root", root)
    done("predict", "-m", model, "-i", scan, "-o", tmp_path / "elsewhere")
    (again,) = (tmp_path / "elsewhere").glob("*.nii.gz")
    assert np.array_equal(read_volume(again)[0], array)


def test_the_second_stage_sees_the_first_out_of_fold(work: Workspace) -> None:
    fine = work.plan("steps").configuration("fine")
    folder = work.preprocessed(fine.data_key)
    for case in work.dataset().fold("0").training:
        seen = read_array(folder / "previous_coarse_base_s0" / f"{case}.b2nd")
        assert seen.shape == read_array(folder / f"{case}.labels.b2nd").shape
    held_out_by_1 = work.dataset().fold("1").held_out
    assert set(work.dataset().fold("0").training) == set(held_out_by_1)


def test_the_first_stage_comes_first(whole_way: WholeWay, tmp_path: Path) -> None:
    work = planned(whole_way, tmp_path)
    words = ("train", "-d", "Knot", "--plan", "steps", "-c", "fine", "-f", "0", "--root", work.folder.parent)
    said = refused(*words, code=2)
    assert "fine trains on what coarse predicts out of fold" in said
    assert "Train coarse in every fold first." in said
