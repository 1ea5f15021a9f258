"""Times work on a device, and keeps what was timed as a rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from autoseg.records.calibration import Kind, Precision, Rate

clock = time.perf_counter  # a benchmark on a shared machine counts the processor's time instead
SECONDS_EACH = 0.05
LEAST_RUNS = 2
LONG_SECONDS = 0.15


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one run, the device's included."""
    begun = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def shortest(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest of several runs; a run that takes long is not repeated."""
    best, runs, deadline = math.inf, 0, time.perf_counter() + SECONDS_EACH
    while runs < LEAST_RUNS or time.perf_counter() < deadline:
        seconds = timed(work, device)
        if runs > 0 or seconds > LONG_SECONDS:  # the first run warms up
            best = min(best, seconds)
        runs += 1
        if seconds > LONG_SECONDS:
            break
    return best


def rate(
    kind: Kind,
    dimensions: Literal[0, 2, 3],
    width: int,
    points: Sequence[tuple[float, float]],
    *,
    precision: Precision = "float32",
    layout: str = "",
    taps: int = 0,
) -> Rate:
    """Return the rate of one kind of operation from (amount of a call, its seconds), the smallest first."""
    amount, seconds = points[-1]
    return Rate(
        kind=kind,
        dimensions=dimensions,
        width=width,
        precision=precision,
        memory_format=layout,  # type: ignore[arg-type]
        per_second=three_digits(amount / seconds),
        points=tuple((three_digits(amount), three_digits(seconds)) for amount, seconds in points),
        taps=taps,
    )


def three_digits(value: float) -> float:
    """Return the value rounded to three digits."""
    return float(f"{value:.2e}")
