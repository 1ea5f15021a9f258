"""Seconds a step and hours a fold, from the operations that the dry runs counted and the speed of the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from autoseg.records.configuration import Configuration
from autoseg.records.forecast import ConfigurationForecast, Forecast
from autoseg.records.plan import Plan
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.planning.networks import family

# Fitted on steps of seven presets, hippocampus shapes, one core with AVX512-BF16; of a card they are typical.
OPERATIONS_A_BYTE = 500  # of dense convolutions, in the time in which a byte of activations is made, read and changed
OPERATIONS_A_BYTE_OF_STATE = 30  # of the weights and what the optimiser keeps
CALLS_OF_A_STEP, CALLS_OF_A_LAYER = 150, 20
CALL_SECONDS = {"cpu": 5e-5, "cuda": 1e-5, "mps": 2e-5}
MAKING_SECONDS = {"cpu": (5e-4, 8e-8), "cuda": (1e-3, 1e-9), "mps": (1e-3, 1e-8)}
"""Seconds that a sample takes, and each of its voxels."""


def forecast(
    plan: Plan,
    flops_per_second: float,
    *,
    folds: int = 5,
    minutes: float | None = None,
    step_seconds: Mapping[str, float] | None = None,
) -> Forecast:
    """Return the time that the line-up of a plan takes; two digits, for it is a forecast.

    Where the device was not calibrated, it is as `rough` has it.

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
        seconds = speeds.get(configuration.name) or rough(configuration, flops_per_second, plan.device.kind)
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


def rough(configuration: Configuration, flops_per_second: float, device_kind: str) -> float:
    """Return the seconds of a step on a device that was not calibrated, to a factor of about one and a half.

    Narrow networks are bound by memory, small ones by the calls of their operators, and a batch has to be made.

    Args:
        configuration: Its operations and bytes count.
        flops_per_second: What a training step of dense convolutions reached on the device.
        device_kind: `cuda`, `mps` or `cpu`.
    """
    memory, recipe, arguments = configuration.memory, configuration.recipe, configuration.architecture.arguments
    # Weights, gradients, the optimiser's one or two numbers, and the average: what is left are activations.
    numbers = 3 + (recipe.optimizer != "sgd") + (recipe.ema_decay > 0)
    state = 4 * numbers * memory.parameters
    moving = max(0.0, memory.peak_bytes - state) * OPERATIONS_A_BYTE / flops_per_second
    updating = state * OPERATIONS_A_BYTE_OF_STATE / flops_per_second
    layers = sum(_sum(arguments.get(key)) for key in ("blocks", "decoder_blocks", "depths", "depth"))
    calling = CALL_SECONDS[device_kind] * (CALLS_OF_A_STEP + CALLS_OF_A_LAYER * layers)
    voxels = math.prod(configuration.patch_shape) * configuration.architecture.input_channels
    sample, voxel = MAKING_SECONDS[device_kind]
    making = configuration.batch_size * (sample + voxel * voxels)
    kind = family(configuration.architecture.kind)
    speed = kind.cpu_speed if device_kind == "cpu" else kind.speed
    computing = memory.step_flops / (flops_per_second * speed)
    return max(computing, moving) + updating + calling + making


def _sum(numbers: JsonValue) -> int:
    if isinstance(numbers, list):
        return sum(_sum(item) for item in numbers)
    return numbers if isinstance(numbers, int) else 0


def corrected(found: Forecast, configuration: str, step_seconds: float, *, steps: int) -> Forecast:
    """Return the forecast after a run of a configuration has measured its pace.

    The configurations that no run has measured yet are taken to be as much faster or slower than expected as the
    measured ones are, in the geometric mean.

    Args:
        found: Before.
        configuration: Whose pace it is; a name that the forecast does not hold changes nothing.
        step_seconds: Of the run's latest steps.
        steps: That the run takes.
    """
    entries = [_measured(item, step_seconds, steps) if item.configuration == configuration else item
               for item in found.configurations]  # fmt: skip
    factor = _factor(entries)
    hours = sum(item.fold_hours * item.folds * (1 if item.expected_step_seconds else factor) for item in entries)
    return found.model_copy(update={"configurations": tuple(entries), "lineup_hours": _two_digits(hours)})


def seconds_of_a_step(found: Forecast, configuration: str) -> float | None:
    """Return the seconds of a configuration's step: measured, or corrected by the others as `corrected` has it.

    None where the forecast does not hold it.
    """
    for item in found.configurations:
        if item.configuration == configuration:
            return item.step_seconds * (1 if item.expected_step_seconds else _factor(found.configurations))
    return None


def _factor(entries: Sequence[ConfigurationForecast]) -> float:
    ratios = [item.step_seconds / item.expected_step_seconds for item in entries if item.expected_step_seconds > 0]
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    return math.exp(sum(known) / len(known)) if known else 1.0


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
