"""Which structures can be trusted most, and how sure their order is: ranked by mean Dice, patients drawn anew."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

from autoseg.records.evaluation import Evaluation
from autoseg.records.record import Record
from autoseg.stages.evaluating.ranking import DIGITS
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, dice_table, resample_groups, target_means


class RankedStructure(Record):
    """One structure in the order of its mean Dice.

    Attributes:
        rank: 1 for the highest; equal ones share the better rank.
        dice: Mean over cases.
        low, high: Interval that holds 95 % of its ranks over resamples of patients; nan with fewer than five.
        first, last: Share of the resamples in which it has the highest, and the lowest, mean Dice of all; nan with
            fewer than five patients.
    """

    structure: str
    rank: int
    dice: float
    low: float = math.nan
    high: float = math.nan
    first: float = math.nan
    last: float = math.nan


def rank_structures(evaluation: Evaluation, groups: Mapping[str, str], *, seed: int = 0) -> tuple[RankedStructure, ...]:
    """Return the structures that were scored, from the highest mean Dice to the lowest.

    Args:
        evaluation: Scores of the cases.
        groups: Case -> patient; a case that is not named is a patient of its own.
        seed: Of the resampling.
    """
    table, names = dice_table(evaluation)
    scored = np.isfinite(table).any(axis=0)
    table, names = table[:, scored], tuple(name for name, kept in zip(names, scored, strict=True) if kept)
    if not names:
        return ()
    means = target_means(table)[0]
    ranks = rankdata(-means.round(DIGITS), method="min").astype(int)
    order = np.argsort(ranks, kind="stable")
    patients = [groups.get(score.case, score.case) for score in evaluation.scores]
    bounds: list[tuple[float, ...]] = [(math.nan,) * 4] * len(names)
    if len(set(patients)) >= FEWEST_GROUPS:
        drawn = target_means(table, resample_groups(patients, seed=seed, key="structures ranked"))
        bounds = _bounds(drawn)
    return tuple(
        RankedStructure(
            structure=names[i], rank=int(ranks[i]), dice=float(means[i]),
            **dict(zip(("low", "high", "first", "last"), bounds[i], strict=True)),
        )
        for i in order
    )  # fmt: skip


def _bounds(drawn: np.ndarray) -> list[tuple[float, ...]]:
    """Return the interval of each structure's rank, and how often it is first and last, from means (R, structures)."""
    whole = drawn[np.isfinite(drawn).all(axis=1)].round(DIGITS)
    if not len(whole):
        return [(math.nan,) * 4] * drawn.shape[1]
    ranks = rankdata(-whole, method="min", axis=1)
    lowest = whole == whole.min(axis=1, keepdims=True)
    low, high = np.percentile(ranks, (2.5, 97.5), axis=0, method="nearest")
    columns = (low, high, (ranks == 1).mean(axis=0), lowest.mean(axis=0))
    return [tuple(float(value) for value in row) for row in zip(*columns, strict=True)]
