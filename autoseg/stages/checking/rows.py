"""One row of a report, as a worker or the comparison of cases makes it."""

from __future__ import annotations

from typing import Literal

from autoseg.records.check import Problem
from autoseg.records.dataset import FileSource, Source
from autoseg.records.errors import UserError

Severity = Literal["error", "warning"]


def make_problem(
    severity: Severity, code: str, what: str, *, fix: str, case: str | None = None, file: str | None = None
) -> Problem:
    """Return a row; `code` is a short stable word, `what` and `fix` are sentences for people."""
    return Problem(severity=severity, code=code, case=case, file=file, what=what, fix=fix)


def failure(case: str, error: UserError) -> Problem:
    """Return what a reader refused as a row."""
    return make_problem("error", error.code, error.what, fix=error.fix, case=error.case or case, file=error.file)


def path_of(source: Source | None) -> str | None:
    """Return the file of a source that is one file, else None."""
    return source.path if isinstance(source, FileSource) else None
