"""Learning to predict the Dice of a case without its truth, with an interval that keeps its promise.

The signs of a case come from one fold of each member, as a held-out case has them, and are taken against what that fold
usually shows; of a new case they are averaged over the folds. The interval is conformal: no line is asked about a case,
or a patient, that it was fitted to.

Source: Vovk, Gammerman and Shafer 2005; Barber et al. 2021 (cross-conformal residuals).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from autoseg.images.signs import ALL_SIGNS, SIGNS
from autoseg.records.quality import QualityModel, Voice
from autoseg.stages.ensembling.counting import HeldOut
from autoseg.stages.ensembling.cross_fitting import parts

PROMISE = 0.9
# Nine cases are the fewest of which nine in ten are a whole number below all of them and one more.
FEWEST_CASES = 9
# What is predicted.
Figure = Literal["dice", "surface_dice"]
PREDICTED: tuple[Figure, ...] = ("dice", "surface_dice")
# Of the ridge, in cases; together with the signs that it looks at, the one that predicts other patients best is taken.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

# A fold's own spread counts as much as that of all folds together once it has so many cases.
SPREAD_CASES = 10


def hear_voices(cases: Sequence[HeldOut], signs: np.ndarray) -> tuple[Voice, ...]:
    """Return the signs that each fold usually shows; needs no truth.

    Args:
        cases: With their fold.
        signs: (cases, structures, signs), as they are.
    """
    folds = np.array([case.fold for case in cases])
    names = sorted(set(folds.tolist()))
    centres = {name: signs[folds == name].mean(axis=0) for name in names}
    shared = np.mean([(row - centres[fold]) ** 2 for row, fold in zip(signs, folds, strict=True)], axis=0)
    voices = []
    for name in names:
        own, count = signs[folds == name].var(axis=0), int((folds == name).sum())
        spread = np.sqrt((count * own + SPREAD_CASES * shared) / (count + SPREAD_CASES))
        centre, scale = centres[name].tolist(), np.maximum(spread, 1e-6).tolist()
        voices.append(Voice(fold=name, centre=tuple(map(tuple, centre)), scale=tuple(map(tuple, scale))))
    return tuple(voices)


def fit_quality(
    names: Sequence[str],
    cases: Sequence[HeldOut],
    signs: np.ndarray,
    dice: np.ndarray,
    *,
    figure: Figure = "dice",
) -> tuple[QualityModel, ...]:
    """Return a model for each structure that has cases enough of several patients.

    Args:
        names: Of the structures.
        cases: With patient and fold.
        signs: (cases, structures, signs), of `predicting.quality.against_usual`; the first of `ALL_SIGNS`, or all.
        dice: True Dice (or what `figure` says), (cases, structures), nan where there is nothing to score.
        figure: What it is.
    """
    found = []
    for column, name in enumerate(names):
        rows = [int(row) for row in np.flatnonzero(np.isfinite(dice[:, column]))]
        apart = [np.array(places) for places in parts([cases[row] for row in rows]).values()]
        if len(rows) >= FEWEST_CASES and apart:
            found.append(_model(name, signs[rows, column], dice[rows, column], apart, figure))
    return tuple(found)


def conformal_width(residuals: np.ndarray, promise: float = PROMISE) -> float:
    """Return the half width that holds `promise` of new cases: the ceil((n + 1) promise)-th smallest residual."""
    ordered = np.sort(np.abs(residuals))
    return float(ordered[min(len(ordered), math.ceil((len(ordered) + 1) * promise)) - 1])


def _model(name: str, signs: np.ndarray, dice: np.ndarray, apart: Sequence[np.ndarray], figure: Figure) -> QualityModel:
    predicted = np.empty(len(dice))
    for places in apart:
        others = np.setdiff1d(np.arange(len(dice)), places)
        # Chosen anew without these cases; their own parts are what is left of the others.
        inner = [np.flatnonzero(np.isin(others, part)) for part in apart if part is not places]
        weights = _best_line(signs[others], dice[others], inner)
        predicted[places] = _along(weights, signs[places])
    width = conformal_width(dice - predicted)
    constant = np.ptp(predicted) == 0 or np.ptp(dice) == 0
    return QualityModel(
        structure=name,
        features=ALL_SIGNS[: signs.shape[1]],
        weights=tuple(_best_line(signs, dice, apart).tolist()),
        half_width=width,
        coverage=float((np.abs(dice - predicted) <= width).mean()),
        spearman=math.nan if constant else float(spearmanr(predicted, dice).statistic),
        cases=len(dice),
        figure=figure,
    )


def _best_line(signs: np.ndarray, dice: np.ndarray, apart: Sequence[np.ndarray]) -> np.ndarray:
    """Return the line whose kind has the least absolute error on parts that it was fitted without.

    Kinds differ in the signs that are looked at (the few of steadiness, or all: few cases cannot bear many) and in
    how strongly the line is drawn towards the mean.
    """
    kinds = [(few, penalty) for few in _groups_of_signs(signs.shape[1]) for penalty in PENALTIES]
    if len(apart) < 2:
        few, penalty = kinds[len(PENALTIES) // 2]
        return _line(signs * few, dice, penalty)
    errors = [0.0] * len(kinds)
    for places in apart:
        others = np.setdiff1d(np.arange(len(dice)), places)
        for number, (few, penalty) in enumerate(kinds):
            found = _along(_line(signs[others] * few, dice[others], penalty), signs[places])
            errors[number] += float(np.abs(found - dice[places]).sum())
    few, penalty = kinds[int(np.argmin(errors))]
    return _line(signs * few, dice, penalty)


def _groups_of_signs(count: int) -> list[np.ndarray]:
    """Return which signs are looked at, (count,) of 0 and 1; a sign that never changes gets no weight."""
    every = np.ones(count)
    if count == len(SIGNS):
        return [every]
    return [(np.arange(count) >= len(SIGNS)).astype(float), every]


def _along(weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(weights[0] + signs @ weights[1:], 0, 1))


def _line(signs: np.ndarray, dice: np.ndarray, penalty: float) -> np.ndarray:
    """Return the weights of 1 and of each sign, drawn towards the mean Dice and no sign at all."""
    centre, spread = signs.mean(axis=0), signs.std(axis=0)
    known = spread > 1e-9
    scaled = (signs[:, known] - centre[known]) / spread[known]
    inner = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(scaled.shape[1]), scaled.T @ (dice - dice.mean()))
    slopes = np.zeros(signs.shape[1])
    slopes[known] = inner / spread[known]
    return np.array([dice.mean() - slopes @ centre, *slopes])
