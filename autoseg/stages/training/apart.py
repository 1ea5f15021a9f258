"""Patients of the training fold that are set apart to measure on; the held-out fold stays untouched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoseg.records.errors import UsageError
from autoseg.records.preset import Recipe
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training.request import stable_seed


def needs_scores(recipe: Recipe) -> bool:
    """Return whether the recipe steers by what is measured."""
    return recipe.stop_epochs > 0 or recipe.schedule == "plateau"


def choose(cases: Sequence[PreprocessedCase], groups: Mapping[str, str], recipe: Recipe, *, seed: int) -> list[str]:
    """Return the ids of the cases set apart: whole patients, drawn by the seed, about the recipe's share.

    Raises:
        UsageError: The recipe steers by scores but sets nobody apart, or there is only one patient.
    """
    if recipe.monitor_fraction == 0:
        if needs_scores(recipe):
            raise UsageError(
                "stop_epochs and the schedule `plateau` need patients to measure on",
                fix="Add --set monitor_fraction=0.1: they are taken from the training cases, never from the held-out.",
            )
        return []
    patients = sorted({groups.get(case.id, case.id) for case in cases}, key=lambda g: (stable_seed(seed, g), g))
    if len(patients) < 2:
        raise UsageError("monitor_fraction leaves nobody to train on", fix="It takes two patients or more.")
    count = min(len(patients) - 1, max(1, round(recipe.monitor_fraction * len(patients))))
    chosen = set(patients[:count])
    return sorted(case.id for case in cases if groups.get(case.id, case.id) in chosen)
