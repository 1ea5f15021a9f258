"""Checking: every problem of a data set at once, in words, before anything is computed.

Each case is read once, exactly as training and prediction read it; what a reader refuses is an error, what it accepts
and a person should look at is a warning. Only a few numbers of each case are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autoseg.records.check import CheckReport
from autoseg.records.dataset import Dataset
from autoseg.records.errors import UserError
from autoseg.stages.checking.comparing import report
from autoseg.stages.checking.looking import Look, Task, look_at
from autoseg.stages.checking.rows import failure

__all__ = ["Look", "Task", "check", "look_at", "report"]


def check(
    dataset: Dataset,
    *,
    workers: int | None = None,
    kept: Path | None = None,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> CheckReport:
    """Return every problem of a data set; reads each case once and changes nothing.

    Args:
        dataset: As imported; its test cases are read as well, but only for faults.
        workers: How many processes, or None for as many as there are cores.
        kept: Folder in which registrations and bias fields are kept.
        tell: Called with (cases done, cases) after each.
    """
    from autoseg.compute.workers import map_cases

    everyone = (*dataset.cases, *dataset.test_cases)
    tasks = [(case.id, Task(case, dataset.channels, dataset.labels, dataset.corrections, kept)) for case in everyone]
    looks: dict[str, Look] = {}
    for id, result in map_cases(look_at, tasks, workers=workers, label="checking"):
        looks[id] = Look(problems=(failure(id, result),)) if isinstance(result, UserError) else result
        tell(len(looks), len(tasks))
    return report(dataset, looks)
