"""Whether one model differs from another on the same patients, and how small a difference so many patients can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from autoseg.records.errors import DataError
from autoseg.records.evaluation import Evaluation
from autoseg.records.record import Record
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, bootstrap_interval, dice_table

ALPHA, POWER = 0.05, 0.80


class Comparison(Record):
    """One structure in two evaluations of the same cases; a patient's gain is the mean over its cases.

    Attributes:
        cases: Cases that have something to score in both.
        median_gain: Median over patients of second minus first, Dice.
        p_value: Of Wilcoxon's signed-rank test over patients, two-sided; 1 when none differs, nan without any.
        patients: Who these cases are of.
        mean_gain: Mean over patients.
        low, high: 95 % bootstrap interval of the mean gain; nan with fewer than five patients.
        corrected_p_value: Holm's correction for as many tests as there are structures.
        smallest_difference: See `smallest_difference`.
    """

    structure: str
    cases: int
    median_gain: float
    p_value: float
    patients: int = 0
    mean_gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    corrected_p_value: float = math.nan
    smallest_difference: float = math.nan


def signed_rank_p(gains: np.ndarray) -> float:
    """Return the two-sided p-value of paired differences; 1 when none differs, nan without any.

    Source:
        Wilcoxon 1945 (scipy.stats.wilcoxon); differences of zero are left out.
    """
    if not gains.size:
        return math.nan
    return float(stats.wilcoxon(gains[gains != 0]).pvalue) if gains.any() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for so many tests by Holm's step-down method (1979), in their order; nan is no test."""
    order = sorted((i for i, p in enumerate(p_values) if p == p), key=lambda i: p_values[i])
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def smallest_difference(gains: np.ndarray) -> float:
    """Return the smallest true mean difference that so many patients would show four times in five.

    For a paired, two-sided test at 5 % with 80 % power on differences that spread as these do:
    (t(0.975) + t(0.80)) x s / sqrt(n), with Student's t of n - 1 degrees of freedom and the sample's standard deviation
    s. A difference below it may be there and not be seen.

    Args:
        gains: Float64, one difference a patient.

    Returns:
        In the unit of `gains`; nan with fewer than five patients.
    """
    count = gains.size
    if count < FEWEST_GROUPS:
        return math.nan
    quantiles = stats.t.ppf(1 - ALPHA / 2, count - 1) + stats.t.ppf(POWER, count - 1)
    return float(quantiles * gains.std(ddof=1) / math.sqrt(count))


def compare(
    first: Evaluation, second: Evaluation, groups: Mapping[str, str] | None = None, *, seed: int = 0
) -> list[Comparison]:
    """Return, structure by structure, whether the second evaluation differs from the first beyond chance.

    Args:
        first, second: Scores of the same cases.
        groups: Case -> patient; a case that is not named is a patient of its own.
        seed: Of the resampling.

    Raises:
        DataError: The two do not score the same cases and structures.
    """
    before, names = dice_table(first)
    after, others = dice_table(second)
    if names != others or {s.case for s in first.scores} != {s.case for s in second.scores}:
        raise DataError(
            f"{', '.join(first.members)} and {', '.join(second.members)} do not score the same cases and structures",
            fix="Compare evaluations of one data set on the same cases.",
            code="not_paired",
        )
    where = {score.case: row for row, score in enumerate(second.scores)}
    gains = after[[where[score.case] for score in first.scores]] - before
    patients = [(groups or {}).get(score.case, score.case) for score in first.scores]
    rows = [_comparison(name, gains[:, column], patients, seed) for column, name in enumerate(names)]
    corrected = holm([row.p_value for row in rows])
    return [row.model_copy(update={"corrected_p_value": p}) for row, p in zip(rows, corrected, strict=True)]


def by_patient(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return the mean over each patient's cases, float64; nan is left out, and so are patients without a figure."""
    of: dict[str, list[float]] = {}
    for patient, value in zip(patients, values, strict=True):
        if value == value:
            of.setdefault(patient, []).append(float(value))
    return np.array([math.fsum(row) / len(row) for row in of.values()])


def _comparison(name: str, gains: np.ndarray, patients: Sequence[str], seed: int) -> Comparison:
    cases = int(np.isfinite(gains).sum())
    of_patients = by_patient(gains, patients)
    if not cases:
        return Comparison(structure=name, cases=0, median_gain=math.nan, p_value=math.nan)
    everyone = [str(i) for i in range(of_patients.size)]
    low, high = bootstrap_interval(of_patients, everyone, key="paired", seed=seed) or (math.nan, math.nan)
    return Comparison(
        structure=name,
        cases=cases,
        median_gain=float(np.median(of_patients)),
        p_value=signed_rank_p(of_patients),
        patients=of_patients.size,
        mean_gain=float(of_patients.mean()),
        low=low,
        high=high,
        smallest_difference=smallest_difference(of_patients),
    )
