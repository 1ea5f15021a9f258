"""Predicting the Dice of a case without its truth, with an interval that keeps its promise.

The features of a case come from one fold of each member, as a held-out case has them; of a new case they are averaged
over the folds. The interval is conformal: no line is asked about a case, or a patient, that it was fitted to.

Source: Vovk, Gammerman and Shafer 2005; Barber et al. 2021 (cross-conformal residuals).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from autoseg.records.quality import PredictedScore, QualityModel
from autoseg.stages.ensembling.counting import HeldOut
from autoseg.stages.ensembling.cross_fitting import parts

PROMISE = 0.9
# Nine cases are the fewest of which nine in ten are a whole number below all of them and one more.
FEWEST_CASES = 9
RIDGE = 1e-3


def fit_quality(
    names: Sequence[str], cases: Sequence[HeldOut], features: np.ndarray, dice: np.ndarray
) -> tuple[QualityModel, ...]:
    """Return a model for each structure that has cases enough of several patients.

    Args:
        names: Of the structures.
        cases: With patient and fold.
        features: (cases, structures, 2), of `images.expected.expected_overlap`.
        dice: True Dice, (cases, structures), nan where there is nothing to score.
    """
    found = []
    for column, name in enumerate(names):
        rows = [int(row) for row in np.flatnonzero(np.isfinite(dice[:, column]))]
        apart = parts([cases[row] for row in rows])
        if len(rows) >= FEWEST_CASES and apart:
            design = _design(features[rows, column])
            found.append(_model(name, design, dice[rows, column], [list(places) for places in apart.values()]))
    return tuple(found)


def predict_quality(models: Sequence[QualityModel], names: Sequence[str], features: np.ndarray) -> list[PredictedScore]:
    """Return the predicted Dice of each structure that has a model.

    Args:
        models: Of `fit_quality`.
        names: Of the structures.
        features: (structures, 2), averaged over folds.
    """
    scores = []
    for model in models:
        (row,) = _design(features[[list(names).index(model.structure)]])
        dice = float(np.clip(row @ np.array(model.weights), 0, 1))
        low, high = max(0.0, dice - model.half_width), min(1.0, dice + model.half_width)
        scores.append(PredictedScore(structure=model.structure, dice=dice, low=low, high=high))
    return scores


def conformal_width(residuals: np.ndarray, promise: float = PROMISE) -> float:
    """Return the half width that holds `promise` of new cases: the ceil((n + 1) promise)-th smallest residual."""
    ordered = np.sort(np.abs(residuals))
    return float(ordered[min(len(ordered), math.ceil((len(ordered) + 1) * promise)) - 1])


def _model(name: str, design: np.ndarray, dice: np.ndarray, apart: Sequence[list[int]]) -> QualityModel:
    predicted = np.empty(len(dice))
    for places in apart:
        others = np.setdiff1d(np.arange(len(dice)), places)
        predicted[places] = np.clip(design[places] @ _line(design[others], dice[others]), 0, 1)
    width = conformal_width(dice - predicted)
    constant = np.ptp(predicted) == 0 or np.ptp(dice) == 0
    first, second, third = (float(value) for value in _line(design, dice))
    return QualityModel(
        structure=name,
        weights=(first, second, third),
        half_width=width,
        coverage=float((np.abs(dice - predicted) <= width).mean()),
        spearman=math.nan if constant else float(spearmanr(predicted, dice).statistic),
        cases=len(dice),
    )


def _design(features: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(features)), features])


def _line(design: np.ndarray, dice: np.ndarray) -> np.ndarray:
    # Ridge around "the expected Dice is the Dice", which stands where cases are few or all alike.
    prior = np.array([0.0, 1.0, 0.0])
    penalty = RIDGE * np.diag([1.0, 1.0, 1.0]) * len(design)
    return prior + np.linalg.solve(design.T @ design + penalty, design.T @ (dice - design @ prior))
