"""Seconds of a training step from what it computes and a device's calibration."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence

from autoseg.records.calibration import Amount, Calibration, Kind, Rate, StepWork
from autoseg.records.errors import DataError
from autoseg.records.plan import Augmentation, Configuration

FORMATS = ("contiguous", "channels_last")
# What a change of single voxels takes beside a gamma curve.
NOISE_SHARE, BRIGHTNESS_SHARE, CONTRAST_SHARE = 0.7, 0.2, 0.5


def step_seconds(configuration: Configuration, works: Sequence[StepWork], calibration: Calibration) -> float:
    """Return the seconds of a training step, its batch's making included.

    Training measures precisions and memory formats and takes the fastest; so does the forecast.

    Args:
        configuration: Its batch, patch and augmentation.
        works: What a step computes, once for each precision that training would try.
        calibration: Of the device.

    Raises:
        DataError: The calibration lacks a kind of operation.
    """
    computing = min(
        seconds(work, calibration, layout) * _factor(work, calibration) for work in works for layout in FORMATS
    )
    return computing + making_seconds(configuration, calibration)


def seconds(work: StepWork, calibration: Calibration, memory_format: str) -> float:
    """Return the seconds of a step's operations, one after the other, in one memory format."""
    computing = sum(item.amount / _per_second(item, calibration, memory_format) for item in work.amounts)
    return computing + work.calls * calibration.call_seconds


def step_factor(work: StepWork, measured: Mapping[str, float], calibration: Calibration) -> float:
    """Return what a whole step took over the sum of its parts, each in its fastest memory format.

    Args:
        work: Of the step.
        measured: Memory format -> seconds.
        calibration: The parts.
    """
    expected = min(seconds(work, calibration, layout) for layout in FORMATS)
    return float(f"{min(measured.values()) / expected:.3g}")


def _factor(work: StepWork, calibration: Calibration) -> float:
    """Return the factor of the precision that the step's forward pass computes in."""
    there = {item.precision for item in work.amounts}
    lower = [precision for precision in there if precision != "float32"]
    return calibration.step_factors.get(lower[0] if lower else "float32", 1.0)


def making_seconds(configuration: Configuration, calibration: Calibration) -> float:
    """Return the seconds that augmentation of one batch takes on average.

    On a CPU the same cores compute the step; on a card the same card does: nothing overlaps.
    """
    shares = _changes(configuration.recipe.augmentation, configuration.architecture.input_channels)
    dimensions = 2 if configuration.dimensions == 2 else 3
    voxels = configuration.batch_size * math.prod(configuration.patch_shape) * configuration.architecture.input_channels
    each = 0.0
    for kind, share in shares.items():
        amount = Amount(kind=kind, dimensions=dimensions, width=0, precision="float32", amount=share)
        each += share / _per_second(amount, calibration, "")
    return voxels * each


def _changes(augmentation: Augmentation, channels: int) -> Mapping[Kind, float]:
    """Return how often each kind of change strikes a sample; of low resolution, a channel of it."""
    moves = 1 - (1 - augmentation.rotation_probability) * (1 - augmentation.scaling_probability)
    gamma = augmentation.gamma_probability + augmentation.inverted_gamma_probability
    return {
        "place": moves,
        "blur": augmentation.blur_probability,
        "low_resolution": augmentation.low_resolution_probability * (0.5 + 0.5**channels),
        "intensity": gamma
        + NOISE_SHARE * augmentation.noise_probability
        + BRIGHTNESS_SHARE * augmentation.brightness_probability
        + CONTRAST_SHARE * augmentation.contrast_probability,
    }


def _per_second(item: Amount, calibration: Calibration, memory_format: str) -> float:
    rates = [
        rate
        for rate in calibration.rates
        if (rate.kind, rate.precision) == (item.kind, item.precision)
        and rate.dimensions in (0, item.dimensions)
        and rate.memory_format in ("", memory_format)
    ]
    if not rates:
        raise DataError(
            f"the calibration of {calibration.device.name} has no speed of {item.kind} operations in {item.precision}",
            fix="Measure it again: autoseg calibrate.",
            code="no_rate",
        )
    return _interpolated(sorted(rates, key=lambda rate: rate.width), item.width)


def _interpolated(rates: Sequence[Rate], width: int) -> float:
    """Return the speed at a width: even beyond the narrowest and widest measured, by powers in between."""
    widths = [rate.width for rate in rates]
    place = bisect.bisect_left(widths, width)
    if place == 0 or place == len(rates):
        return rates[min(place, len(rates) - 1)].per_second
    low, high = rates[place - 1], rates[place]
    share = math.log(width / low.width) / math.log(high.width / low.width)
    return low.per_second ** (1 - share) * high.per_second**share  # type: ignore[no-any-return]
