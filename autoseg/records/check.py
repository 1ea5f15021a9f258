"""What a check of a data set found."""

from __future__ import annotations

from typing import Literal

from autoseg.records.record import Record


class Problem(Record):
    """One thing that is wrong (`error`) or suspicious (`warning`) with a case or with the data set (`case` None)."""

    severity: Literal["error", "warning"]
    code: str
    case: str | None
    file: str | None
    what: str
    fix: str


class CheckReport(Record):
    """Every problem of every case at once.

    Attributes:
        dataset_digest: Of the Dataset that was checked.
        cases: How many were looked at.
    """

    schema_version: Literal[1] = 1
    dataset: str
    dataset_digest: str
    cases: int
    problems: tuple[Problem, ...]

    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that keep a case from being used."""
        return tuple(item for item in self.problems if item.severity == "error")
