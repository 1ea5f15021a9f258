"""The Dice that a prediction is thought to have, from its signs and what was learnt out of fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.images.signs import ALL_SIGNS
from autoseg.records.quality import PredictedScore, QualityModel, Voice

# So many standard deviations count as any more would.
FARTHEST = 8.0


def predict_quality(models: Sequence[QualityModel], names: Sequence[str], signs: np.ndarray) -> list[PredictedScore]:
    """Return the predicted Dice of each structure that has a model.

    Args:
        models: Of `ensembling.fit_quality`.
        names: Of the structures.
        signs: (structures, signs), of `against_usual`.
    """
    surfaces = {model.structure: model for model in models if model.figure == "surface_dice"}
    scores = []
    for model in models:
        if model.figure != "dice":
            continue
        row = signs[list(names).index(model.structure)]
        dice, low, high = _interval(model, row)
        score = PredictedScore(structure=model.structure, dice=dice, low=low, high=high)
        if model.structure in surfaces:
            dice, low, high = _interval(surfaces[model.structure], row)
            score = score.model_copy(update={"surface_dice": dice, "surface_low": low, "surface_high": high})
        scores.append(score)
    return scores


def _interval(model: QualityModel, signs: np.ndarray) -> tuple[float, float, float]:
    seen = np.array([1.0, *(signs[ALL_SIGNS.index(name)] for name in model.features)])
    found = float(np.clip(seen @ np.array(model.weights), 0, 1))
    return found, max(0.0, found - model.half_width), min(1.0, found + model.half_width)


def against_usual(signs: np.ndarray, folds: Sequence[str], voices: Sequence[Voice]) -> np.ndarray:
    """Return the signs in standard deviations from what each fold usually shows, averaged over folds.

    Two networks of one data set may be as good and yet, on average, differ more in how sure they are than one network
    does between good cases and bad ones: only against what is usual for it does a sign mean something.

    Args:
        signs: (folds, structures, signs).
        folds: Name of each.
        voices: What each fold usually shows; folds that are not among them say nothing. None at all: signs as they
            are, averaged.

    Returns:
        (structures, signs).
    """
    known = {voice.fold: voice for voice in voices}
    if not known:
        return np.asarray(signs.mean(axis=0))
    found = [
        (row[:, : len(known[fold].centre[0])] - np.array(known[fold].centre)) / np.array(known[fold].scale)
        for row, fold in zip(signs, folds, strict=True)
        if fold in known
    ]
    usual = np.array(voices[0].centre)
    return np.clip(np.mean(found, axis=0), -FARTHEST, FARTHEST) if found else np.zeros(usual.shape)
