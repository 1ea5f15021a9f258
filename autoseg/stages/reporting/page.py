"""The report: one self-contained HTML file."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from autoseg import __version__
from autoseg.records.plan import Plan
from autoseg.records.results import Evaluation
from autoseg.stages import evaluating
from autoseg.stages.evaluating import summaries, tables
from autoseg.stages.reporting import failures, figures, gathering, registrations
from autoseg.workspace import Workspace, read_record, write_bytes


def write(work: Workspace, plan: Plan) -> Path:
    """Write the report of a plan's ensemble and return its path.

    Raises:
        UsageError: No ensemble was chosen yet.
    """
    choice = work.choice(plan.name)
    evaluation = read_record(work.ensemble(plan.name) / "evaluation.json", Evaluation)
    table = tables.frame(evaluation)
    overlays = gathering.overlays(work, plan, choice, evaluation)
    text = _template().render(
        dataset=work.dataset(),
        fingerprint=work.fingerprint(),
        plan=plan,
        plan_digest=plan.digest(),
        choice=choice,
        evaluation=evaluation,
        summaries=summaries.summarise(evaluation, evaluating.patients_of(work.dataset())),
        models=gathering.model_rows(work, plan),
        compared=gathering.candidates(work, plan),
        problems=gathering.problems(work),
        curves=figures.curves(gathering.histories(work, plan)),
        dice=figures.boxes(_by_structure(table, "dice"), title="Dice, a dot a case"),
        distance=figures.boxes(_by_structure(table, "hd95_mm"), title="HD95 in mm, a dot a case"),
        registered=registrations.registrations(work),
        failures=failures.failures(evaluation),
        overlays=overlays,
        scenes=_scenes(overlays),
        versions={"autoseg": __version__, "torch": torch.__version__, "Python": platform.python_version()},
    )
    file = work.report_file(plan.name)
    write_bytes(file, text.encode())
    return file


def _scenes(overlays: Sequence[gathering.Overlay]) -> list[dict[str, Any]]:
    return [{"title": f"{item.rank}: {item.case}", **item.scene} for item in overlays if item.scene]


def _by_structure(table: pd.DataFrame, column: str) -> dict[str, list[float]]:
    return {str(name): list(rows[column]) for name, rows in table.groupby("structure", sort=False)}


def _template():  # type: ignore[no-untyped-def]
    # Names of cases and structures come from files: they are escaped, never trusted.
    environment = Environment(
        loader=PackageLoader("autoseg.stages.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["figure"] = _figure
    environment.filters["fit"] = registrations.fit
    return environment.get_template("page.html.j2")


def _printable(value: object) -> object:
    """Return text without control characters; everything else as it is."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return type(value)("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in value))


def _figure(value: float, digits: int = 3) -> str:
    """Return a number for people: nan means that there was nothing to score."""
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"
