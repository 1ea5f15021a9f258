"""An honest estimate of a choice: every case is judged by a choice that it had no say in.

Selection and post-processing are done again without each fold, and judged on that fold; nothing is trained again.
The best of many is partly the luckiest of many on the cases that chose it, and that luck stays behind: it does not
follow the choice to cases that took no part. What remains is slightly pessimistic, for each choice saw fewer cases.

Source: Stone 1974 (cross-validatory choice and assessment); Varma and Simon 2006 (the bias without it).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from autoseg.records.choice import CrossFit, EnsembleChoice, Estimate, Figure, Metric
from autoseg.records.evaluation import CaseScore
from autoseg.stages.ensembling.counting import HeldOut
from autoseg.stages.ensembling.question import FIGURES, Question
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, pooled_mean, resample_groups

MOST_PARTS = 5


def parts(cases: Sequence[HeldOut], *, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Return name -> places of the cases that are left out together; a patient is never split.

    The parts are the folds, or up to five shares of the patients where all cases are of one fold; {} where there is
    only one patient.
    """
    folds = list(dict.fromkeys(case.fold for case in cases))
    patients = sorted({case.group for case in cases})
    if len(folds) > 1:
        part_of = {case.group: f"fold {case.fold}" for case in cases}
    else:
        random.Random(seed).shuffle(patients)
        count = min(MOST_PARTS, len(patients))
        part_of = {patient: f"share {place % count + 1} of {count}" for place, patient in enumerate(patients)}
    names = sorted(set(part_of.values()))
    if len(names) < 2:
        return {}
    return {name: tuple(row for row, case in enumerate(cases) if part_of[case.group] == name) for name in names}


def cross_fit(
    question: Question,
    choose_from: Callable[[Sequence[int]], EnsembleChoice],
    judge: Callable[[EnsembleChoice, HeldOut], CaseScore],
    *,
    seed: int = 0,
) -> tuple[tuple[CrossFit, ...], tuple[CaseScore, ...]]:
    """Return the choice made without each part, and the score that it gives each case of that part.

    Args:
        question: Whose cases are parted.
        choose_from: Places of cases -> what is chosen from these alone, post-processing included.
        judge: (choice, case) -> its score.
        seed: Of the parting of one fold's patients.
    """
    fits: list[CrossFit] = []
    scores: list[CaseScore] = []
    for name, rows in parts(question.cases, seed=seed).items():
        choice = choose_from([row for row in range(len(question.cases)) if row not in set(rows)])
        scores += [judge(choice, question.cases[row]) for row in rows]
        fits.append(
            CrossFit(
                part=name,
                cases=len(rows),
                members=choice.members,
                weights=choice.weights,
                postprocessing=choice.postprocessing,
            )
        )
    return tuple(fits), tuple(scores)


def estimates(
    metric: Metric,
    optimistic: Sequence[CaseScore],
    honest: Sequence[CaseScore],
    groups: Mapping[str, str],
    *,
    seed: int = 0,
) -> tuple[Estimate, ...]:
    """Return both estimates of each figure of a metric.

    Args:
        metric: What was chosen by.
        optimistic: Scores of the choice on the cases that made it.
        honest: Scores of `cross_fit`; () gives nan.
        groups: Case -> patient.
        seed: Of the resampling.
    """
    return tuple(_estimate(figure, optimistic, honest, groups, seed) for figure in FIGURES[metric])


def _estimate(
    figure: str, optimistic: Sequence[CaseScore], honest: Sequence[CaseScore], groups: Mapping[str, str], seed: int
) -> Estimate:
    low = high = mean = math.nan
    if honest:
        table = figure_table(honest, figure)
        mean = float(pooled_mean(table)[0])
        patients = [groups.get(score.case, score.case) for score in honest]
        if len(set(patients)) >= FEWEST_GROUPS:
            means = pooled_mean(table, resample_groups(patients, seed=seed, key=f"honest {figure}"))
            means = means[np.isfinite(means)]
            low, high = (float(value) for value in np.percentile(means, (2.5, 97.5))) if means.size else (low, high)
    on_all = float(pooled_mean(figure_table(optimistic, figure))[0]) if optimistic else math.nan
    return Estimate(figure=_as_figure(figure), optimistic=on_all, honest=mean, low=low, high=high)


def figure_table(scores: Sequence[CaseScore], figure: str) -> np.ndarray:
    """Return one figure of `StructureScore` as float64, (cases, structures)."""
    return np.array([[getattr(item, figure) for item in score.structures] for score in scores], dtype=np.float64)


def _as_figure(name: str) -> Figure:
    names: dict[str, Figure] = {"dice": "dice", "surface_dice": "surface_dice", "lesion_f1": "lesion_f1"}
    return names[name]
