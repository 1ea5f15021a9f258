"""The report: one self-contained HTML file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from autoseg import __version__
from autoseg.records.evaluation import Evaluation
from autoseg.records.exploration import Exploration
from autoseg.records.plan import Plan
from autoseg.stages import evaluating
from autoseg.stages.evaluating import summaries, tables
from autoseg.stages.reporting import curves, data_section, failures, figures, gathering, origins, registrations
from autoseg.stages.reporting.templates import write_page
from autoseg.storage import read_record
from autoseg.workspace import Workspace


def write(work: Workspace, plan: Plan, exploration: Exploration) -> Path:
    """Write the report of a plan's ensemble and return its path; `exploration` is what its cases look like.

    Raises:
        UsageError: No ensemble was chosen yet.
    """
    choice = work.choice(plan.name)
    evaluation = read_record(work.ensemble(plan.name) / "evaluation.json", Evaluation)
    table = tables.frame(evaluation)
    patients, fit = evaluating.patients_of(work.dataset()), choice.calibration
    rows = summaries.summarise(evaluation, patients)
    overlays = gathering.overlays(work, plan, choice, evaluation)
    return write_page(
        work.report_file(plan.name),
        "page.html.j2",
        dataset=work.dataset(),
        fingerprint=work.fingerprint(),
        plan=plan,
        plan_digest=plan.digest(),
        choice=choice,
        evaluation=evaluation,
        summaries=rows,
        ranked=evaluating.rank_structures(evaluation, patients),
        reliability=curves.reliability(fit) if fit is not None and fit.bins_before else "",
        models=origins.model_rows(work, plan),
        compared=gathering.candidates(work, plan),
        data=_data(work, exploration, overlays=0),
        curves=curves.training(origins.histories(work, plan)),
        dice=_boxes(table, rows, "dice", "mean", title="Dice"),
        distance=_boxes(table, rows, "hd95_mm", "median", title="HD95 in mm"),
        registered=registrations.registrations(work),
        failures=failures.failures(evaluation),
        overlays=overlays,
        scenes=_scenes(overlays),
        versions={"autoseg": __version__, "torch": torch.__version__, "Python": platform.python_version()},
    )


def _scenes(overlays: Sequence[gathering.Overlay]) -> list[dict[str, Any]]:
    return [{"title": f"{item.rank}: {item.case}", **item.scene} for item in overlays if item.scene]


def _boxes(
    table: pd.DataFrame, rows: Sequence[evaluating.StructureSummary], column: str, statistic: str, *, title: str
) -> str:
    key = f"{column}_{statistic}"
    return figures.boxes(
        _by_structure(table, column),
        title=f"{title}: a dot a case, {statistic} with its 95 % interval over patients in orange",
        centres={row.structure: getattr(row, key) for row in rows},
        intervals={row.structure: row.intervals[key] for row in rows if key in row.intervals},
    )


def _by_structure(table: pd.DataFrame, column: str) -> dict[str, list[float]]:
    return {str(name): list(rows[column]) for name, rows in table.groupby("structure", sort=False)}


def write_data(work: Workspace, exploration: Exploration) -> Path:
    """Write the page about the data alone and return its path."""
    patients = len({case.group for case in work.dataset().cases})
    data = _data(work, exploration, overlays=4)
    return write_page(work.explore_file, "explore.html.j2", data=data, patients=patients, version=__version__)


def _data(work: Workspace, exploration: Exploration, *, overlays: int) -> data_section.DataSection:
    problems, kept = gathering.problems(work), work.registrations
    return data_section.describe(work.dataset(), exploration, problems, kept=kept, overlays=overlays)
