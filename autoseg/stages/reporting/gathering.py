"""Collecting from the workspace what a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autoseg.images import orientation
from autoseg.images.cases import read_image
from autoseg.records.check import CheckReport
from autoseg.records.choice import EnsembleChoice
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.records.plan import Plan
from autoseg.records.volumes import LabelMap
from autoseg.stages import evaluating
from autoseg.stages.ensembling.out_of_fold import OutOfFold
from autoseg.stages.evaluating.truths import truth
from autoseg.stages.reporting import figures, meshes
from autoseg.storage import read_record
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class Overlay:
    """One case in pictures."""

    case: str
    rank: str
    mean_dice: float
    picture: str
    scene: dict[str, Any] | None = None


def case_dice(score: CaseScore) -> float:
    """Return the mean Dice over the structures of one case, nan when nothing was scored."""
    values = [item.dice for item in score.structures if item.dice == item.dice]
    return float(np.mean(values)) if values else float("nan")


def candidates(work: Workspace, plan: Plan) -> evaluating.CandidateTable | None:
    """Return the plan's candidates side by side, or None where there are no two to compare."""
    try:
        there = evaluating.read_candidates(work, plan.name)
        return evaluating.compare_candidates(there, evaluating.patients_of(work.dataset()))
    except UsageError as error:
        if error.code not in {"nothing_to_compare", "no_shared_fold"}:
            raise
        return None


def problems(work: Workspace) -> CheckReport | None:
    """Return what the last check found, or None when there was none."""
    return read_record(work.check_file, CheckReport) if work.check_file.exists() else None


def overlays(work: Workspace, plan: Plan, choice: EnsembleChoice, evaluation: Evaluation) -> list[Overlay]:
    """Return the worst, the median and the best case in pictures."""
    ranked = sorted((s for s in evaluation.scores if case_dice(s) == case_dice(s)), key=case_dice)
    if not ranked:
        return []
    there = OutOfFold.collect(work, plan)
    chosen = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
    return [
        Overlay(
            ranked[index].case,
            rank,
            case_dice(ranked[index]),
            *_picture(there, choice, ranked[index].case, work),
        )
        for index, rank in sorted(chosen.items())
    ]


def maps(there: OutOfFold, choice: EnsembleChoice, id: str, work: Workspace) -> tuple[np.ndarray, LabelMap, LabelMap]:
    """Return the first channel (Z, Y, X), truth and prediction of a held-out case, axes along the patient's."""
    dataset = work.dataset()
    case = dataset.case(id)
    image = read_image(case.images, dataset.channels, dataset.corrections, case=id, kept=work.registrations)
    array, grid = orientation.orient(image.array, image.grid)
    pair = (truth(dataset, case), there.merged(choice, id))
    drawn, found = (LabelMap(orientation.orient(item.array, image.grid)[0], grid) for item in pair)
    return array[0], drawn, found


def _picture(there: OutOfFold, choice: EnsembleChoice, id: str, work: Workspace) -> tuple[str, dict[str, Any] | None]:
    image, drawn, found = maps(there, choice, id, work)
    return figures.overlay(image, drawn, found), meshes.scene(drawn, found, work.dataset().labels)
