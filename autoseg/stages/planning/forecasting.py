"""Seconds a step and hours a fold, from the operations that the dry runs counted and the speed of the device."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autoseg.records.forecast import ConfigurationForecast, Forecast
from autoseg.records.plan import Configuration, Plan
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.planning.networks import family


def forecast(
    plan: Plan,
    flops_per_second: float,
    *,
    folds: int = 5,
    minutes: float | None = None,
    step_seconds: Mapping[str, float] | None = None,
) -> Forecast:
    """Return the time that the line-up of a plan takes; two digits, for it is a forecast.

    Where the device was not calibrated, a configuration's operations are divided by the speed at which its family
    computes: depthwise convolutions and attention in small windows reach a fraction of what dense convolutions do.

    Args:
        plan: Its line-up counts.
        flops_per_second: What a training step of dense convolutions reached on the device, above 0.
        folds: Runs of each configuration.
        minutes: Budget of the whole training: then no fold takes longer than its share.
        step_seconds: By configuration, from a calibration of the device (`timing.step_seconds`).
    """
    speeds = step_seconds or {}
    entries = []
    for entry in plan.lineup:
        share = None if minutes is None else minutes * 60 * TRAINING_FRACTION * entry.share / max(folds, 1)
        configuration = plan.configuration(entry.configuration)
        seconds = speeds.get(configuration.name) or uncalibrated(configuration, flops_per_second)
        entries.append(_configuration(configuration, seconds, folds=folds, longest_seconds=share))
    return Forecast(
        plan=plan.name,
        device=plan.device.name,
        flops_per_second=flops_per_second,
        calibrated=bool(speeds),
        configurations=tuple(entries),
        lineup_hours=_two_digits(sum(item.fold_hours * item.folds for item in entries)),
    )


def uncalibrated(configuration: Configuration, flops_per_second: float) -> float:
    """Return roughly the seconds of a step, from its operations and the speed of dense convolutions."""
    return configuration.memory.step_flops / (flops_per_second * family(configuration.architecture.kind).speed)


def corrected(found: Forecast, configuration: str, step_seconds: float, *, steps: int) -> Forecast:
    """Return the forecast after a run of a configuration has measured its pace.

    The configurations that no run has measured yet are taken to be as much faster or slower than expected as the
    measured ones are, in the geometric mean.

    Args:
        found: Before.
        configuration: Whose pace it is; a name that the forecast does not hold changes nothing.
        step_seconds: Mean of the run's first steps.
        steps: That the run takes.
    """
    entries = [_measured(item, step_seconds, steps) if item.configuration == configuration else item
               for item in found.configurations]  # fmt: skip
    ratios = [item.step_seconds / item.expected_step_seconds for item in entries if item.expected_step_seconds > 0]
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    factor = math.exp(sum(known) / len(known)) if known else 1.0
    hours = sum(item.fold_hours * item.folds * (1 if item.expected_step_seconds else factor) for item in entries)
    return found.model_copy(update={"configurations": tuple(entries), "lineup_hours": _two_digits(hours)})


def _measured(item: ConfigurationForecast, step_seconds: float, steps: int) -> ConfigurationForecast:
    return item.model_copy(
        update={
            "step_seconds": float(f"{step_seconds:.3g}"),
            "steps": steps,
            "fold_hours": _two_digits(step_seconds * steps / 3600),
            "expected_step_seconds": item.expected_step_seconds or item.step_seconds,
        }
    )


def _configuration(
    configuration: Configuration, seconds: float, *, folds: int, longest_seconds: float | None
) -> ConfigurationForecast:
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
