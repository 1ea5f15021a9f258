"""One held-out case in full: its overlays, its figures beside those of all cases, its surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg import __version__
from autoseg.records.choice import EnsembleChoice
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import CaseScore, Evaluation, StructureScore
from autoseg.records.plan import Plan
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.reporting import failures, figures, gathering, meshes
from autoseg.stages.reporting.templates import write_page
from autoseg.storage import read_record
from autoseg.workspace import Workspace

MOST_CLOSE_UPS = 6
MOST_NAMED = 8


@dataclass(frozen=True)
class StructureRow:
    """One structure of the case.

    Attributes:
        usual_dice: Median over all held-out cases.
        place: How many of the held-out cases have a lower Dice, and how many have one; "" where nothing is scored.
    """

    score: StructureScore
    usual_dice: float
    place: str


@dataclass(frozen=True)
class CloseUp:
    """One structure in three planes through its middle."""

    structure: str
    dice: float
    picture: str


def write_case(work: Workspace, plan: Plan, id: str) -> Path:
    """Write the page about one held-out case and return its path.

    Raises:
        UsageError: No ensemble was chosen yet, or the case is none of those that it was judged on.
    """
    choice = work.choice(plan.name)
    evaluation = read_record(work.ensemble(plan.name) / "evaluation.json", Evaluation)
    score = _score(work, plan, evaluation, id)
    there = OutOfFold.collect(work, plan)
    image, drawn, found = gathering.maps(there, choice, id, work)
    labels = work.dataset().labels
    scene = meshes.scene(drawn, found, labels)
    rows = [_row(item, evaluation) for item in score.structures]
    return write_page(
        work.case_report_file(plan.name, id),
        "case.html.j2",
        dataset=work.dataset(),
        case=work.dataset().case(id),
        fold=_fold(work, id),
        dice=gathering.case_dice(score),
        rows=rows,
        grid=drawn.grid,
        failures=[item for item in failures.failures(evaluation) if item.case == id],
        picture=figures.overlay(image, drawn, found),
        close_ups=_close_ups(image, drawn, found, score=score, targets=dict(labels.targets)),
        scenes=[{"title": id, **scene}] if scene else [],
        members=_members(work, there, choice, id),
        choice=choice,
        version=__version__,
        plan_digest=plan.digest(),
    )


def _score(work: Workspace, plan: Plan, evaluation: Evaluation, id: str) -> CaseScore:
    work.dataset().case(id)
    for score in evaluation.scores:
        if score.case == id:
            return score
    names = [score.case for score in evaluation.scores]
    some = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    raise UsageError(
        f"the ensemble of plan {plan.name} has no held-out prediction of case {id}",
        fix=f"It has: {some}. Train the folds that hold out this case, then run `autoseg ensemble -d {work.name}`."
        if names
        else f"Train folds that hold cases out, then run `autoseg ensemble -d {work.name}`.",
        code="not_held_out",
    )


def _fold(work: Workspace, id: str) -> str:
    return next(fold.name for fold in work.dataset().folds if id in fold.held_out)


def _row(item: StructureScore, evaluation: Evaluation) -> StructureRow:
    everyone = [
        other.dice
        for score in evaluation.scores
        for other in score.structures
        if other.structure == item.structure and other.dice == other.dice
    ]
    usual = float(np.median(everyone)) if everyone else float("nan")
    lower = sum(value < item.dice for value in everyone)
    return StructureRow(item, usual, f"{lower + 1} of {len(everyone)}" if item.dice == item.dice else "")


def _close_ups(
    image: np.ndarray, drawn: LabelMap, found: LabelMap, *, score: CaseScore, targets: dict[str, tuple[int, ...]]
) -> list[CloseUp]:
    """Return the structures with the lowest Dice, each with what is around it."""
    scored = sorted((item for item in score.structures if item.dice == item.dice), key=lambda item: item.dice)
    shown = []
    for item in scored[:MOST_CLOSE_UPS]:
        values = targets[item.structure]
        focus = np.isin(drawn.array, values) | np.isin(found.array, values)
        shown.append(CloseUp(item.structure, item.dice, figures.overlay(image, drawn, found, focus=focus)))
    return shown


def _members(work: Workspace, there: OutOfFold, choice: EnsembleChoice, id: str) -> list[tuple[str, float, bool]]:
    """Return every candidate that was judged on the case: name, mean Dice on it, whether it is in the ensemble."""
    rows = []
    for name, models in there.candidates.items():
        for model in models:
            score = next((item for item in work.evaluation(model).scores if item.case == id), None)
            if score is not None:
                rows.append((name, gathering.case_dice(score), name in choice.members))
    return sorted(rows, key=lambda row: -np.nan_to_num(row[1], nan=-1.0))
