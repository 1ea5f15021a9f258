"""Seconds a step and hours a fold, from the operations that the dry runs counted and the speed of the device."""

from __future__ import annotations

from autoseg.records.forecast import ConfigurationForecast, Forecast
from autoseg.records.plan import Configuration, Plan
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.planning.networks import family


def forecast(plan: Plan, flops_per_second: float, *, folds: int = 5, minutes: float | None = None) -> Forecast:
    """Return the time that the line-up of a plan takes; two digits, for it is a forecast.

    A configuration's operations are divided by the speed at which its family computes: depthwise convolutions and
    attention in small windows reach a fraction of what dense convolutions do.

    Args:
        plan: Its line-up counts.
        flops_per_second: What a training step of dense convolutions reached on the device, above 0.
        folds: Runs of each configuration.
        minutes: Budget of the whole training: then no fold takes longer than its share.
    """
    entries = []
    for entry in plan.lineup:
        share = None if minutes is None else minutes * 60 * TRAINING_FRACTION * entry.share / max(folds, 1)
        configuration = plan.configuration(entry.configuration)
        entries.append(_configuration(configuration, flops_per_second, folds=folds, longest_seconds=share))
    return Forecast(
        plan=plan.name,
        device=plan.device.name,
        flops_per_second=flops_per_second,
        configurations=tuple(entries),
        lineup_hours=_two_digits(sum(item.fold_hours * item.folds for item in entries)),
    )


def _configuration(
    configuration: Configuration, flops_per_second: float, *, folds: int, longest_seconds: float | None
) -> ConfigurationForecast:
    speed = flops_per_second * family(configuration.architecture.kind).speed
    seconds = configuration.memory.step_flops / speed
    steps = configuration.recipe.epochs * configuration.recipe.steps_per_epoch
    if longest_seconds is not None:
        steps = max(1, min(steps, int(longest_seconds / max(seconds, 1e-12))))
    return ConfigurationForecast(
        configuration=configuration.name,
        step_seconds=_two_digits(seconds),
        steps=steps,
        fold_hours=_two_digits(seconds * steps / 3600),
        folds=folds,
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
