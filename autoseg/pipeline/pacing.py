"""What is left of a training, from the steps that were taken: the forecast is corrected while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from autoseg.records.forecast import Forecast
from autoseg.stages.planning.clock import TRAINING_FRACTION
from autoseg.stages.planning.forecasting import corrected, seconds_of_a_step
from autoseg.stages.training import Progress
from autoseg.storage import write_record
from autoseg.workspace import Workspace

log = logging.getLogger("autoseg")

PACE_STEPS, PACE_AGAIN = 20, 10


def correct_forecast(
    work: Workspace, plan: str, configuration: str, *, pace_seconds: float, steps: int
) -> Forecast | None:
    """Write into the forecast what a run's steps took, and return it; where there is no forecast, nothing."""
    file = work.forecast_file(plan)
    if not file.exists():
        return None
    before = work.forecast(plan)
    after = corrected(before, configuration, pace_seconds, steps=steps)
    if after == before:
        return before
    write_record(file, after)
    item = next(item for item in after.configurations if item.configuration == configuration)
    log.info("%s: %.3g s a step (expected %.3g): the line-up takes %.3g hours", configuration, item.step_seconds,
             item.expected_step_seconds, after.lineup_hours)  # fmt: skip
    return after


class Pacer:
    """Corrects the forecast by the pace of a run, after 20 steps, 200, 2000 and so on, and says what is to come."""

    def __init__(self, work: Workspace, plan: str, configuration: str):
        self._target = (work, plan, configuration)
        self._found = work.forecast(plan) if work.forecast_file(plan).exists() else None
        self._next = PACE_STEPS

    def note(self, now: Progress) -> None:
        """Take note of how far the run is."""
        if now.measured_steps < self._next:
            return
        while now.measured_steps >= self._next:
            self._next *= PACE_AGAIN
        self._found = correct_forecast(*self._target, pace_seconds=now.step_seconds, steps=now.steps)

    def to_come(self, now: Progress, later: Sequence[tuple[str, float | None]]) -> float:
        """Return the seconds that the runs after this one train.

        Args:
            now: How far the present run is; without a budget, later ones are taken to have as many steps.
            later: Configuration of each, and the seconds that it has, or None.
        """
        return sum(now.steps * self._step_seconds(name, now) if given is None else given for name, given in later)

    def _step_seconds(self, configuration: str, now: Progress) -> float:
        expected = None
        if self._found is not None and configuration != self._target[2]:
            expected = seconds_of_a_step(self._found, configuration)
        return expected or now.step_seconds


def held_out_seconds(measured: Sequence[float], expected: Sequence[float]) -> float:
    """Return the seconds that predicting and scoring the held-out cases of runs is going to take.

    Args:
        measured: What it took of earlier runs.
        expected: What it was thought to take of the runs whose held-out cases are still to be predicted; counts where
            nothing is measured yet.
    """
    return len(expected) * sum(measured) / len(measured) if measured else sum(expected)


def forecast_held_out(work: Workspace, plan: str) -> dict[str, float]:
    """Return configuration -> seconds that the held-out cases of a run are forecast to take; {} without a forecast."""
    if not work.forecast_file(plan).exists():
        return {}
    return {item.configuration: 3600 * item.held_out_hours for item in work.forecast(plan).configurations}


def expected_held_out(forecast: Mapping[str, float], runs: Sequence[tuple[str, float | None]]) -> list[float]:
    """Return the seconds that the held-out cases of runs are thought to take: as forecast, else what a budget keeps.

    Args:
        forecast: Of `forecast_held_out`.
        runs: Configuration of each, and the seconds that it trains, or None.
    """
    kept = 1 / TRAINING_FRACTION - 1
    return [forecast.get(name, 0.0) or kept * (given or 0.0) for name, given in runs]
