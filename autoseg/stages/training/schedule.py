"""The learning rate of every step, as a pure function."""

from __future__ import annotations

import math

from autoseg.records.preset import Recipe

POLYNOMIAL_POWER = 0.9


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of step `step` (from 0) of a run of `steps`.

    During the warm-up (`recipe.warmup_fraction` of the steps) the rate rises linearly and reaches
    `recipe.learning_rate` with the warm-up's last step. What follows depends on `recipe.schedule`: `polynomial`
    falls as (1 - progress) ** 0.9, `cosine` as half a cosine, and `warmup_stable_decay` stays level and falls
    linearly over the last `recipe.decay_fraction` of the steps. None of them reaches 0 before the run ends.

    Source:
        Polynomial: Chen et al. 2017, arXiv:1606.00915; cosine: Loshchilov and Hutter 2017, arXiv:1608.03983;
        warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395.
    """
    warmup = round(recipe.warmup_fraction * steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if recipe.schedule == "polynomial":
        return float(recipe.learning_rate * (1 - progress) ** POLYNOMIAL_POWER)
    if recipe.schedule == "plateau":
        return recipe.learning_rate  # `steering` lowers it by what is measured
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    decay = max(1, round(recipe.decay_fraction * steps))
    return recipe.learning_rate * min(1.0, (steps - step) / decay)
