"""Seconds of a training step from what it computes and a device's calibration."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from autoseg.records.calibration import Amount, Calibration, Kind, Rate, StepWork
from autoseg.records.configuration import Configuration
from autoseg.records.errors import DataError
from autoseg.records.preset import Augmentation

FORMATS = ("contiguous", "channels_last")
# What a change of single voxels takes beside a gamma curve.
NOISE_SHARE, BRIGHTNESS_SHARE, CONTRAST_SHARE = 0.7, 0.2, 0.5
# Kinds that older calibrations did not tell apart.
ONCE_ELEMENTWISE = ("copy", "exponential", "index", "optimizer")
ONCE_DEPTHWISE = ("depthwise", "depthwise_strided", "depthwise_transposed")
# Older calibrations timed one such convolution, of 32 channels and kernels of 3, and took its operations (a forward
# pass, two gradients of as many) to be (1 + 1 + 32) / (1 + 1 + 1) times as many as they are.
OLDER_WIDTH, OLDER_KERNEL, OLDER_OPERATIONS = 32, 3, 34 / 3


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
        seconds(work, calibration, layout) * _factor(work, calibration, layout) for work in works for layout in FORMATS
    )
    return computing + making_seconds(configuration, calibration)


def seconds(work: StepWork, calibration: Calibration, memory_format: str) -> float:
    """Return the seconds of a step's operations, one after the other, in one memory format."""
    return sum(_amount_seconds(item, calibration, memory_format) for item in work.amounts)


def step_factors(
    wholes: Iterable[tuple[StepWork, Mapping[str, float]]], calibration: Calibration
) -> Mapping[str, float]:
    """Return by memory format what whole steps took over the sum of their parts, in the geometric mean.

    Args:
        wholes: What each step computes, and memory format -> seconds that it took.
        calibration: The parts.
    """
    logs: dict[str, list[float]] = {layout: [] for layout in FORMATS}
    for work, measured in wholes:
        for layout, taken in measured.items():
            logs[layout].append(math.log(taken / seconds(work, calibration, layout)))
    return {layout: float(f"{math.exp(sum(rows) / len(rows)):.3g}") for layout, rows in logs.items() if rows}


def _factor(work: StepWork, calibration: Calibration, layout: str) -> float:
    """Return the factor of the precision that the step's forward pass computes in."""
    there = {item.precision for item in work.amounts}
    lower = [precision for precision in there if precision != "float32"]
    precision = lower[0] if lower else "float32"
    factors = calibration.step_factors
    return factors.get(f"{precision} {layout}", factors.get(precision, 1.0))


def making_seconds(configuration: Configuration, calibration: Calibration) -> float:
    """Return the seconds that augmentation of one batch takes on average.

    On a CPU the same cores compute the step; on a card the same card does: nothing overlaps.
    """
    channels = configuration.architecture.input_channels
    dimensions: Literal[2, 3] = 2 if configuration.dimensions == 2 else 3
    voxels = math.prod(configuration.patch_shape) * channels
    each = 0.0
    for kind, share in _changes(configuration.recipe.augmentation, channels).items():
        if share > 0:
            amount = Amount(kind=kind, dimensions=dimensions, width=0, precision="float32", amount=voxels)
            each += share * _amount_seconds(amount, calibration, "")
    return configuration.batch_size * each


def _changes(augmentation: Augmentation, channels: int) -> Mapping[Kind, float]:
    """Return how often each kind of change strikes a sample; of low resolution, a channel of it."""
    moves = 1 - (1 - augmentation.rotation_probability) * (1 - augmentation.scaling_probability)
    gamma = augmentation.gamma_probability + augmentation.inverted_gamma_probability
    return {
        "sample": 1.0,
        "place": moves,
        "blur": augmentation.blur_probability,
        "low_resolution": augmentation.low_resolution_probability * (0.5 + 0.5**channels),
        "intensity": gamma
        + NOISE_SHARE * augmentation.noise_probability
        + BRIGHTNESS_SHARE * augmentation.brightness_probability
        + CONTRAST_SHARE * augmentation.contrast_probability,
    }


def _amount_seconds(item: Amount, calibration: Calibration, memory_format: str) -> float:
    rates = _rates(item, item.kind, calibration, memory_format)
    if item.kind in ONCE_DEPTHWISE and not calibration.tells_kernels_apart:
        rates = [_as_now(rate) for rate in _rates(item, "depthwise", calibration, memory_format)]
    if not rates and item.kind == "sample":
        return 0.0
    if not rates and item.kind in ONCE_ELEMENTWISE:
        rates = _rates(item, "elementwise", calibration, memory_format)
    if not rates:
        raise DataError(
            f"the calibration of {calibration.device.name} has no speed of {item.kind} operations in {item.precision}",
            fix="Measure it again: autoseg calibrate.",
            code="no_rate",
        )
    each = item.amount / item.calls
    by_taps: dict[int, list[Rate]] = {}
    for rate in rates:
        by_taps.setdefault(rate.taps, []).append(rate)
    # As many voxels, with the kernel that was timed.
    costs = [
        (taps, _at_width(rows, each * (taps / item.taps if taps and item.taps else 1.0), item.width, calibration))
        for taps, rows in sorted(by_taps.items())
    ]
    return item.calls * _at_taps(costs, item.taps)


def _as_now(rate: Rate) -> Rate:
    """Return the rate of an older calibration with its operations counted as they are now."""
    return rate.model_copy(
        update={
            "width": OLDER_WIDTH,
            "taps": OLDER_KERNEL**rate.dimensions,
            "per_second": rate.per_second / OLDER_OPERATIONS,
            "points": tuple((amount / OLDER_OPERATIONS, seconds) for amount, seconds in rate.points),
        }
    )


def _at_width(rates: Sequence[Rate], each: float, width: int, calibration: Calibration) -> float:
    by_width: dict[int, list[Rate]] = {}
    for rate in rates:
        by_width.setdefault(rate.width, []).append(rate)
    curve = [(float(place), _call_seconds(rows, each, calibration)) for place, rows in sorted(by_width.items())]
    return _even(curve, width)


def _at_taps(costs: Sequence[tuple[int, float]], taps: int) -> float:
    """Return the seconds of a call with a kernel of so many taps: those of its voxels, and those of each tap.

    Args:
        costs: Taps and seconds of as many voxels, by taps.
        taps: Of the kernel.
    """
    (fewest, least), (most, longest) = costs[0], costs[-1]
    if fewest == most:
        return least
    each_tap = max(0.0, (longest - least) / (most - fewest))
    return max(least + each_tap * (taps - fewest), least * min(1.0, taps / fewest))


def _rates(item: Amount, kind: Kind, calibration: Calibration, memory_format: str) -> list[Rate]:
    return [
        rate
        for rate in calibration.rates
        if (rate.kind, rate.precision) == (kind, item.precision)
        and rate.dimensions in (0, item.dimensions)
        and rate.memory_format in ("", memory_format)
    ]


def _call_seconds(rates: Sequence[Rate], amount: float, calibration: Calibration) -> float:
    """Return the seconds of one call: even below the smallest that was timed, in proportion above the largest."""
    points = sorted(point for rate in rates for point in rate.points)
    if not points:
        return amount / rates[0].per_second + calibration.call_seconds
    largest, seconds = points[-1]
    if amount >= largest:
        return seconds * amount / largest
    return _even(points, amount)


def _even(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value at x by powers between two points, even beyond the first and the last."""
    places = [point[0] for point in points]
    place = bisect.bisect_left(places, x)
    if place == 0 or place == len(points):
        return points[min(place, len(points) - 1)][1]
    (low, below), (high, above) = points[place - 1], points[place]
    share = math.log(x / low) / math.log(high / low)
    return below ** (1 - share) * above**share  # type: ignore[no-any-return]
