"""Which model comes first, and how often it would with other patients: rankings as challenges make them.

Two ways that may disagree: *mean then rank* ranks the means over patients; *rank then mean* ranks the models on every
case and structure and then the means of these ranks. Both are done again on 1000 resamples of patients.

Source: Wiesenfarth et al. 2021, doi:10.1038/s41598-021-82017-6 (stability of rankings by bootstrap, Kendall's tau).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from autoseg.records.record import Record
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, mean_over_targets, resample_groups

Scheme = Literal["mean_then_rank", "rank_then_mean"]
SCHEMES: tuple[Scheme, ...] = ("mean_then_rank", "rank_then_mean")
DIGITS = 12  # figures that differ by rounding only are equal


class RankedModel(Record):
    """One model in a ranking.

    Attributes:
        rank: 1 for the best; equal models share the better rank.
        value: What was ranked: the mean figure, or the mean rank.
        shares: Share of the resamples in which it has rank 1, 2, ...; empty with fewer than five patients.
    """

    name: str
    rank: int
    value: float
    shares: tuple[float, ...] = ()


class Ranking(Record):
    """Models from the first to the last.

    Attributes:
        metric: What they are ranked by.
        scheme: See this module.
        patients: Who took part.
        models: In the order of their ranks.
        agreement: Mean over resamples of Kendall's tau with this ranking, -1 to 1: how stable it is on the whole; nan
            with fewer than five patients.
    """

    metric: str
    scheme: Scheme
    patients: int
    models: tuple[RankedModel, ...]
    agreement: float = math.nan


def rank(
    tables: np.ndarray,
    names: Sequence[str],
    patients: Sequence[str],
    *,
    metric: str,
    scheme: Scheme,
    seed: int = 0,
) -> Ranking:
    """Return a ranking of models with its stability.

    Args:
        tables: Float64, (models, cases, targets), higher is better; nan where nothing is scored. What is nan for one
            model counts for none.
        names: Of the models.
        patients: The patient of each case.
        metric: What the figures are, for the record.
        scheme: See this module.
        seed: Of the resampling.
    """
    figures = _of_patients(tables, patients, scheme)
    everyone = [str(i) for i in range(figures.shape[1])]
    values = figures.mean(axis=1) if everyone else np.full(len(names), np.nan)
    ranks = _ranks(values[None], scheme)[0]
    shares: np.ndarray = np.empty((len(names), 0))
    agreement = math.nan
    if len(everyone) >= FEWEST_GROUPS:
        weights = resample_groups(everyone, seed=seed, key=f"ranking {metric} {scheme}")
        drawn = _ranks(weights @ figures.T / len(everyone), scheme)
        shares = np.stack([(drawn == place).mean(axis=0) for place in range(1, len(names) + 1)], axis=1)
        agreement = _agreement(drawn, ranks)
    models = [
        RankedModel(name=names[i], rank=int(ranks[i]), value=float(values[i]), shares=tuple(map(float, shares[i])))
        for i in np.argsort(ranks, kind="stable")
    ]
    return Ranking(metric=metric, scheme=scheme, patients=len(everyone), models=tuple(models), agreement=agreement)


def _of_patients(tables: np.ndarray, patients: Sequence[str], scheme: Scheme) -> np.ndarray:
    # -> float64, (models, patients): mean figure, or mean rank, of those patients who have one
    known = np.isfinite(tables).all(axis=0)
    cells = np.where(known, tables.round(DIGITS), np.nan)
    if scheme == "rank_then_mean":
        cells = np.where(known, rankdata(-np.where(known, cells, 0.0), axis=0), np.nan)
    of_cases = mean_over_targets(cells)
    names = list(dict.fromkeys(patients))
    rows = np.array([[patient == name for patient in patients] for name in names], dtype=bool)
    of_patients = np.stack([mean_over_targets(np.where(row, of_cases, np.nan)) for row in rows], axis=1)
    return of_patients[:, np.isfinite(of_patients).all(axis=0)]


def _ranks(values: np.ndarray, scheme: Scheme) -> np.ndarray:
    # -> (R, models), 1 for the best; equal models share the better rank
    best_first = values if scheme == "rank_then_mean" else -values
    return rankdata(np.nan_to_num(best_first.round(DIGITS)), method="min", axis=1).astype(np.int64)


def _agreement(drawn: np.ndarray, ranks: np.ndarray) -> float:
    first, second = np.triu_indices(len(ranks), 1)
    if not first.size:
        return math.nan
    order = np.sign(ranks[first] - ranks[second])
    return float((np.sign(drawn[:, first] - drawn[:, second]) * order).mean())
