"""Killed at any moment (SIGKILL), the same command goes on, and ends with what an unbroken run ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import REPOSITORY, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # twenty processes one after the other

KILLS = 20


def killed(folder: Path, *words: object) -> dict[str, Any]:
    """Run the benchmark with a checkpoint after every step; return what it found."""
    script = str(REPOSITORY / "benchmarks" / "killed.py")
    command = [sys.executable, script, "--folder", str(folder), "--kills", str(KILLS), "--interval", "0"]
    end = subprocess.run([*command, *map(str, words)], env=environment(), capture_output=True, text=True)
    assert end.returncode == 0, end.stdout + end.stderr
    return json.loads(end.stdout)


def test_a_training_ends_with_the_same_bytes_and_one_step_is_done_again(tmp_path: Path) -> None:
    found = killed(tmp_path / "train", "--steps", 60)
    assert found["different"] == []
    assert found["most_steps_again"] <= 1
    assert found["kills_in_training"] >= KILLS / 5, "the moments missed the training"


def test_all_of_it_ends_with_the_same_models(tmp_path: Path) -> None:
    found = killed(tmp_path / "run", "--command", "run", "--steps", 20)
    assert found["different"] == []
    assert found["most_steps_again"] <= 1
