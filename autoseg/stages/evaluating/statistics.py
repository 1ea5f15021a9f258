"""How sure a mean over cases is: patients are drawn anew.

The mean that everything here speaks of is `Evaluation.mean_dice`: over structures, of the mean over cases, nan left
out. Patients (groups) are drawn rather than cases, because two scans of one patient are no two witnesses.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from autoseg.records.evaluation import Evaluation
from autoseg.records.record import Record

RESAMPLES = 1000
MEDIAN_CELLS = 500_000  # cases x resamples that are sorted at a time

# With fewer patients than five, all of them gaining happens by chance more often than one time in twenty.
FEWEST_GROUPS = 5


class Interval(Record):
    """A mean and the interval that holds it, by resampling patients.

    Attributes:
        low, high: 2.5th and 97.5th percentile of the resampled means; nan with fewer than five patients.
        groups: How many patients were drawn from.
    """

    low: float
    mean: float
    high: float
    groups: int


def resample_groups(groups: Sequence[str], *, seed: int, key: str, count: int = RESAMPLES) -> np.ndarray:
    """Return how often each case takes part in each resample of patients, int64, (count, cases).

    Args:
        groups: The patient of each case.
        seed: The same seed and key give the same draws.
        key: What is resampled, so that two questions do not share their luck.
        count: Resamples.
    """
    names, of_case = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return drawn[:, of_case]


def pooled_mean(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over targets of the mean over cases, nan left out.

    Args:
        table: Float, (cases, targets), nan where there is nothing to score.
        weights: (R, cases), how often each case counts; None: each once.

    Returns:
        Float64, (R,); nan where nothing counts.
    """
    return mean_over_targets(target_means(table, weights))


def target_means(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over cases of each target, (R, targets); see `pooled_mean`."""
    if weights is None:
        weights = np.ones((1, len(table)))
    scored = np.isfinite(table)
    total, count = weights @ np.where(scored, table, 0.0), weights @ scored.astype(np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def mean_over_targets(means: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis, nan left out; nan where nothing is left."""
    there = np.isfinite(means)
    total, count = np.where(there, means, 0.0).sum(axis=-1), there.sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def bootstrap_interval(
    values: np.ndarray,
    patients: Sequence[str],
    *,
    key: str,
    statistic: Literal["mean", "median"] = "mean",
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean or median over cases, by drawing patients anew with all their cases.

    Args:
        values: Float64, one a case, without nan; infinite ones may take part in a median.
        patients: The patient of each case.
        key: What is asked, so that two questions do not share their luck.
        statistic: What is computed of each resample.
        seed: Of the resampling.

    Returns:
        2.5th and 97.5th percentile; None with fewer than five patients.
    """
    names, of_case = np.unique(np.asarray(patients, dtype=object), return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return None
    draws = _draws(tuple(names), seed, key)
    if statistic == "median":
        parts = np.array_split(draws, max(1, values.size * len(draws) // MEDIAN_CELLS))
        drawn = np.concatenate([_weighted_medians(values, part[:, of_case]) for part in parts])
    else:
        drawn = draws @ np.bincount(of_case, values) / (draws @ np.bincount(of_case))
    # Percentiles without interpolation: between a finite and an infinite value there is nothing.
    low, high = np.percentile(drawn, (2.5, 97.5), method="nearest")
    return float(low), float(high)


def bootstrap_ratio(
    parts: np.ndarray, wholes: np.ndarray, patients: Sequence[str], *, key: str, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of sum(parts) / sum(wholes), such as found lesions of all lesions.

    Args:
        parts, wholes: Float64, one a case.
        patients: The patient of each case.
        key: What is asked, so that two questions do not share their luck.
        seed: Of the resampling.

    Returns:
        2.5th and 97.5th percentile over those resamples that have a whole; None with fewer than five patients, or
        without any whole.
    """
    names, of_case = np.unique(np.asarray(patients, dtype=object), return_inverse=True)
    if len(names) < FEWEST_GROUPS or not wholes.any():
        return None
    draws = _draws(tuple(names), seed, key)
    part, whole = draws @ np.bincount(of_case, parts), draws @ np.bincount(of_case, wholes)
    low, high = np.percentile(part[whole > 0] / whole[whole > 0], (2.5, 97.5), method="nearest")
    return float(low), float(high)


@lru_cache(maxsize=8)  # the figures of a structure share their patients
def _draws(patients: tuple[str, ...], seed: int, key: str) -> np.ndarray:
    # -> how often each patient (sorted, each once) takes part in each resample
    return resample_groups(patients, seed=seed, key=key)


def _weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # -> the median of each row's resample: the middle value, or the mean of the two middle ones
    order = np.argsort(values)
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower, upper = np.argmax(reached >= half, axis=1), np.argmax(reached > half, axis=1)
    return (values[order][lower] + values[order][upper]) / 2


def interval(evaluation: Evaluation, groups: Mapping[str, str], *, seed: int = 0) -> Interval:
    """Return the mean Dice with its 95 % bootstrap interval over patients.

    Args:
        evaluation: Scores of the cases.
        groups: Case -> patient; a case that is not named is a patient of its own.
        seed: Of the resampling.
    """
    table, _ = dice_table(evaluation)
    patients = [groups.get(score.case, score.case) for score in evaluation.scores]
    count = len(set(patients))
    low = high = math.nan
    if count >= FEWEST_GROUPS:
        means = pooled_mean(table, resample_groups(patients, seed=seed, key="interval"))
        means = means[np.isfinite(means)]
        if means.size:
            low, high = (float(value) for value in np.percentile(means, (2.5, 97.5)))
    return Interval(low=low, mean=evaluation.mean_dice(), high=high, groups=count)


def dice_table(evaluation: Evaluation) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return Dice as float64 (cases, structures), nan where nothing is scored, and the structures' names."""
    names = dict.fromkeys(item.structure for score in evaluation.scores for item in score.structures)
    table = np.full((len(evaluation.scores), len(names)), np.nan)
    column = {name: index for index, name in enumerate(names)}
    for row, score in enumerate(evaluation.scores):
        for item in score.structures:
            table[row, column[item.structure]] = item.dice
    return table, tuple(names)
