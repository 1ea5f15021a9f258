"""The folder that a container is built from; its script runs without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autoseg.images.files import read_volume
from tests.command_line import done, environment
from tests.conftest import WholeWay
from tests.faults import builders


@pytest.fixture(scope="module")
def folder(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("container") / "built"
    said = ("--licence", "CC0 | free", "--intended-use", "knots")
    done("export", "-d", "Knot", "--root", whole_way.root, "--container", folder, *said)
    return folder


def test_what_is_in_it(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["Dockerfile", "README.md", "model.zip", "predict.sh"]
    assert os.access(folder / "predict.sh", os.X_OK)
    text = (folder / "README.md").read_text()
    assert "| values | 0 background, 1 core, 5 rim |" in text
    assert "| licence | CC0 / free |" in text
    assert "| intended use | knots |" in text
    assert "`/input`, read only: `<case>.nii.gz` (MRI)" in text


def test_the_container_is_not_root_and_copies_only_what_is_there(folder: Path) -> None:
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER user"]
    (copied,) = (line.split()[1:-1] for line in lines if line.startswith("COPY"))
    assert all((folder / name).is_file() for name in copied)
    assert lines.index("USER user") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    pinned = next(line for line in lines if line.startswith("ARG AUTOSEG"))
    assert re.fullmatch(r"ARG AUTOSEG=autoseg==\d+\.\d+\.\d+", pinned)


def test_the_script_reads_input_and_writes_output(folder: Path, whole_way: WholeWay, tmp_path: Path) -> None:
    """In a clean process: an empty folder that cannot be written, an empty home, and no variable but the path."""
    (tmp_path / "input").mkdir()
    for case in builders.CASES[:2]:
        shutil.copy(builders.image_file(whole_way.raw, case), tmp_path / "input")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    clean = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path / "nowhere"),
        "PYTHONPATH": environment()["PYTHONPATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUTOSEG_INPUT": str(tmp_path / "input"),
        "AUTOSEG_OUTPUT": str(tmp_path / "output"),
    }
    words = [folder / "predict.sh", "--no-mirror", "--device", "cpu"]
    end = subprocess.run(words, cwd="/", env=clean, capture_output=True, text=True, timeout=120)
    assert end.returncode == 0, end.stderr
    written = sorted((tmp_path / "output").iterdir())
    assert [path.name for path in written] == ["MR_1.nii.gz", "MR_2.nii.gz"]
    for path in written:
        array, grid = read_volume(path)
        own = read_volume(builders.image_file(whole_way.raw, path.name.removesuffix(".nii.gz")))[1]
        assert grid == own
        assert set(np.unique(array)) <= {0, 1, 5}


@pytest.mark.slow
def test_the_script_ends_with_the_exit_code_of_the_prediction(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    builders.save(tmp_path / "input" / "good.nii.gz", builders.scan(1)[0])
    (tmp_path / "input" / "bad.nii.gz").write_bytes(b"rubbish")
    more = {"AUTOSEG_INPUT": str(tmp_path / "input"), "AUTOSEG_OUTPUT": str(tmp_path / "output")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [folder / "predict.sh", "--no-mirror", "--device", "cpu"]
    end = subprocess.run(words, env=environment(PATH=path, **more), capture_output=True, text=True, timeout=120)
    assert end.returncode == 4, end.stderr
    assert "bad" in end.stderr
    assert [item.name for item in (tmp_path / "output").iterdir()] == ["good.nii.gz"]
