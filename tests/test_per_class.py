"""Weights by structure, as a user types them: asked for, kept with the choice, applied in both ways of predicting."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from autoseg.images.files import read_volume
from autoseg.storage import write_record
from autoseg.workspace import Workspace
from tests.command_line import done
from tests.conftest import WholeWay

MEMBERS = ("default/smoke_2d/base_s0", "default/smoke_3d/base_s0")
QUICK = ("--no-mirror", "--step", 1.0, "--device", "cpu")


@pytest.fixture
def root(whole_way: WholeWay, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_way.root, tmp_path / "root"))


def test_too_few_patients_share_one_set_and_the_option_says_so(root: Path) -> None:
    said = done("ensemble", "-d", "Knot", "--per-class", "--root", root).said
    assert "Weights by structure need at least 5 patients" in " ".join(said.split())
    assert Workspace.locate("Knot", root).choice().class_weights == ()


def choose(root: Path, *rows: tuple[float, float, float]) -> None:
    """Write a choice of both members whose channels (background, core, rim) have these weights."""
    work = Workspace.locate("Knot", root)
    found = {"members": MEMBERS, "weights": (0.5, 0.5), "class_weights": rows, "postprocessing": ()}
    write_record(work.ensemble("default") / "choice.json", work.choice().model_copy(update=found))


def test_they_are_applied_in_the_workspace_and_from_one_file(root: Path, whole_way: WholeWay, tmp_path: Path) -> None:
    """Background as both say; the core as one says alone, the rim as the other, and then the other way round."""
    words = ("-i", whole_way.raw / "imagesTr" / "MR_1_0000.nii.gz", "--probabilities", *QUICK)
    for name, rows in {"a": ((0.5, 1.0, 0.0), (0.5, 0.0, 1.0)), "b": ((0.5, 0.0, 1.0), (0.5, 1.0, 0.0))}.items():
        choose(root, *rows)
        done("predict", "-d", "Knot", "--root", root, "-o", tmp_path / name, *words)
        done("export", "-d", "Knot", "--root", root, "-o", tmp_path / f"{name}.zip")
        done("predict", "-m", tmp_path / f"{name}.zip", "-o", tmp_path / f"{name}_file", *words)
        assert contents(tmp_path / name).keys() == contents(tmp_path / f"{name}_file").keys()
        for file, array in contents(tmp_path / name).items():
            assert np.array_equal(array, contents(tmp_path / f"{name}_file")[file]), file
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert any(not np.allclose(first[file], second[file], atol=1e-3) for file in first)


def contents(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_volume(path)[0] for path in sorted(folder.rglob("*.nii.gz"))}
