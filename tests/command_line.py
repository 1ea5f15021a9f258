"""Typing a command in this process or in a child, and what a person then sees."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from autoseg import cli

REPOSITORY = Path(cli.__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything, with the line breaks that a table's columns make taken out."""
        return self.out + self.err

    def json(self) -> Any:
        return json.loads(self.out)


def typed(*words: object) -> Outcome:
    """Run `autoseg WORDS` in this process; what it changes in logging and torch's threads is put back."""
    logger, threads = logging.getLogger("autoseg"), torch.get_num_threads()
    state = logger.handlers[:], logger.level, logger.propagate
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    try:
        with (
            mock.patch.object(sys, "argv", ["autoseg", *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        logger.handlers[:], logger.level, logger.propagate = state
        torch.set_num_threads(threads)
    return Outcome(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Outcome:
    """Run a command that must succeed."""
    outcome = typed(*words)
    assert outcome.code == 0, f"{words}: {outcome.said}"
    return outcome


def refused(*words: object, code: int) -> str:
    """Run a command that must fail with `code`; return its message, which must be a sentence without a traceback."""
    outcome = typed(*words)
    assert outcome.code == code, f"{words}: exit code {outcome.code}, {outcome.said}"
    assert "Traceback" not in outcome.said
    messages = [line for line in outcome.err.splitlines() if line.startswith("autoseg: ")]
    assert len(messages) == 1, outcome.said
    return outcome.err


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that finds this very package."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **more}


def child(program: str, *words: object, more: Mapping[str, str] | None = None, limit: float = 120) -> Outcome:
    """Run a program text in a child process."""
    command = [sys.executable, "-c", program, *map(str, words)]
    end = subprocess.run(command, env=environment(**(more or {})), capture_output=True, text=True, timeout=limit)
    return Outcome(end.returncode, end.stdout, end.stderr)


def listing(*folders: Path) -> dict[str, tuple[int, int]]:
    """Return every file below some folders with its size and time of change, and the names of the folders."""
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0) for path in found}
