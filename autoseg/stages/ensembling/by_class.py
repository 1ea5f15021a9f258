"""Weights of its own for each structure: the same selection, once a structure by its own figures.

So much freedom over-fits: it is an option, and what comes of it stands only where it beats the same weights for all by
more than what may be noise. Background keeps the weights that all share. A voxel goes to the class whose own mean of
probabilities is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autoseg.records.choice import Candidate, EnsembleChoice
from autoseg.stages.ensembling.question import Question
from autoseg.stages.ensembling.selection import (
    MOST_ROUNDS,
    WORDS,
    Budget,
    common_folds,
    gain_words,
    grow,
    members_of,
    patients_of,
)
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, pooled_mean

# Every number of rounds divides it, so that the weights of all classes add up to the same whole number.
SUM = math.lcm(*range(1, MOST_ROUNDS + 1))


def choose_by_class(
    question: Question, shared: EnsembleChoice, *, budget: Budget, rows: Sequence[int] | None = None, seed: int = 0
) -> EnsembleChoice:
    """Return a choice with weights by structure where they are better than `shared`, else that one with a note.

    Args:
        question: The candidates and their cases.
        shared: What was chosen for all structures together, from the same cases.
        budget: What an ensemble may cost; all structures together keep within it.
        rows: Places of the cases in `question.cases` to choose by; None: all of them.
        seed: Of the resampling.
    """
    rows = range(len(question.cases)) if rows is None else rows
    if len(question.names) < 2 or len(question.labels.targets) < 2:
        return _with_note(shared, "Weights by structure were asked for, and there is nothing to choose between.")
    if len(set(patients_of(question, rows))) < FEWEST_GROUPS:
        return _with_note(shared, f"Weights by structure need at least {FEWEST_GROUPS} patients; all share one set.")
    same = _weights_of(question, shared)
    by_class = _grown(question, same, budget, rows, seed)
    found = np.stack([question.table_by_class(weights, rows) for weights in (by_class, same)])
    new, old = question.merits(found)
    patients = patients_of(question, rows)
    better, words = gain_words(new, old, patients, seed=seed, key="by class", word=WORDS[question.metric])
    trial = Candidate(
        members=members_of(question, by_class.sum(axis=1)),
        weights=_means(question, by_class),
        mean_dice=float(pooled_mean(found[0, 0])[0]),
        score=float(pooled_mean(new)[0]),
        step=max(item.step for item in shared.candidates) + 1,
        chosen=better,
        because=f"weights by structure: {words}" + ("" if better else ": may be noise, all share one set"),
    )
    if not better:
        return shared.model_copy(update={"candidates": (*shared.candidates, trial)})
    cost = budget.cost(trial.members)
    return shared.model_copy(
        update={
            "members": trial.members,
            "weights": trial.weights,
            "class_weights": tuple(tuple(map(float, row / SUM)) for row in by_class if row.any()),
            "folds": common_folds(question, trial.members),
            "candidates": (*(item.model_copy(update={"chosen": False}) for item in shared.candidates), trial),
            "mean_dice": trial.mean_dice,
            "seconds_per_case": None if math.isnan(cost) else cost,
            "notes": (*shared.notes, _in_words(question, by_class)),
        }
    )


def _grown(question: Question, same: np.ndarray, budget: Budget, rows: Sequence[int], seed: int) -> np.ndarray:
    """Return weights (candidates, channels): each target's own, and the shared ones for background."""
    background = 0 if question.labels.regions else 1
    result = same.copy()
    if not background:
        result[:] = 0
    for target in range(len(question.labels.targets)):
        within = replace(budget, taken=members_of(question, result[:, : target + background].sum(axis=1)))
        path = grow(replace(question, only=target), within, rows, seed)
        best = path.weights[path.accepted]
        result[:, target + background] = best * (SUM // int(best.sum()))
    return result


def _weights_of(question: Question, shared: EnsembleChoice) -> np.ndarray:
    share = dict(zip(shared.members, shared.weights, strict=True))
    one = np.array([round(SUM * share.get(name, 0.0)) for name in question.names], np.int64)
    return np.repeat(one[:, None], question.labels.output_channels, axis=1)


def _means(question: Question, by_class: np.ndarray) -> tuple[float, ...]:
    targets = by_class[:, -len(question.labels.targets) :]
    return tuple(float(row.mean() / SUM) for row, full in zip(targets, by_class, strict=True) if full.any())


def _in_words(question: Question, by_class: np.ndarray) -> str:

    def mixed(column: np.ndarray) -> str:
        return ", ".join(f"{question.names[place]} ({column[place] / SUM:.2f})" for place in np.flatnonzero(column))

    targets = zip(question.labels.targets, by_class.T[-len(question.labels.targets) :], strict=True)
    rows = [f"{name}: {mixed(column)}" for (name, _), column in targets]
    return f"Weights by structure, which over-fit (believe the honest estimate): {'; '.join(rows)}."


def _with_note(choice: EnsembleChoice, note: str) -> EnsembleChoice:
    return choice.model_copy(update={"notes": (*choice.notes, note)})
