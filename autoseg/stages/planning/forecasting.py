"""Seconds a step and hours a fold, from the operations that the dry runs counted and the speed of the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from autoseg.images.steadiness import shapes_looked_at
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
# A pass of a patch without gradients takes about a third of what it takes of a training step.
PASSES_OF_A_SAMPLE = 3


def forecast(
    plan: Plan,
    flops_per_second: float,
    *,
    folds: int = 5,
    cases: int = 0,
    minutes: float | None = None,
    step_seconds: Mapping[str, float] | None = None,
) -> Forecast:
    """Return the time that the line-up of a plan takes; two digits, for it is a forecast.

    Where the device was not calibrated, it is as `rough` has it.

    Args:
        plan: Its line-up counts.
        flops_per_second: What a training step of dense convolutions reached on the device, above 0.
        folds: Runs of each configuration.
        cases: Held out by all folds together.
        minutes: Budget of the whole training: then no fold takes longer than its share.
        step_seconds: By configuration, from a calibration of the device (`timing.step_seconds`).
    """
    speeds = step_seconds or {}
    entries = []
    for entry in plan.lineup:
        share = None if minutes is None else minutes * 60 * TRAINING_FRACTION * entry.share / max(folds, 1)
        configuration = plan.configuration(entry.configuration)
        seconds = speeds.get(configuration.name) or rough(configuration, flops_per_second, plan.device.kind)
        item = _configuration(configuration, seconds, folds=folds, longest_seconds=share)
        held_out = cases / max(folds, 1) * case_seconds(configuration, seconds)
        entries.append(item.model_copy(update={"held_out_hours": _two_digits(held_out / 3600)}))
    return Forecast(
        plan=plan.name,
        device=plan.device.name,
        flops_per_second=flops_per_second,
        calibrated=bool(speeds),
        configurations=tuple(entries),
        lineup_hours=_two_digits(sum(_hours(item) for item in entries)),
    )


def _hours(item: ConfigurationForecast) -> float:
    return (item.fold_hours + item.held_out_hours) * item.folds


def case_seconds(configuration: Configuration, step_seconds: float) -> float:
    """Return roughly the seconds that predicting a held-out case takes, its looks for the doubt included."""
    return count_passes(configuration) * step_seconds / configuration.batch_size / PASSES_OF_A_SAMPLE


def count_passes(configuration: Configuration) -> int:
    """Return the passes of a patch over a held-out case of the median shape.

    Windows overlap by half and are mirrored as in training; those of the looks lie side by side.
    """
    flips = 2 ** len(configuration.mirror_axes) if configuration.recipe.augmentation.mirror_probability > 0 else 1
    once = flips * _count_windows(configuration.median_shape, configuration.patch_shape, 0.5)
    if configuration.regions is not None:
        return once
    looks = shapes_looked_at(configuration.median_shape)
    return once + sum(_count_windows(shape, configuration.patch_shape, 1.0) for shape in looks)


def _count_windows(shape: Sequence[int], patch: Sequence[int], step_fraction: float) -> int:
    """Return how many windows `networks.sweep` lays over an image; here without torch."""
    return math.prod(
        math.ceil((max(size, edge) - edge) / max(1.0, edge * step_fraction)) + 1
        for size, edge in zip(shape, patch, strict=True)
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
    hours = sum(_hours(item) * (1 if item.expected_step_seconds else factor) for item in entries)
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
            "held_out_hours": _two_digits(item.held_out_hours * step_seconds / item.step_seconds),
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
