"""How long a plan will take: times differ from machine to machine, so they lie beside the plan and not in it."""

from __future__ import annotations

from typing import Literal

from autoseg.records.record import Record


class ConfigurationForecast(Record):
    """What training one configuration takes.

    Attributes:
        configuration: Its name.
        step_seconds: One training step at the planned patch and batch.
        steps: Of one fold: the full recipe's, or those that a budget has time for.
        fold_hours: Training of one fold.
        held_out_hours: Predicting the cases that one fold holds out, looked at again and again for their doubt; 0 in
            older files.
        folds: Runs of the configuration.
        expected_step_seconds: What was forecast before a run measured its pace; 0 where none has.
    """

    configuration: str
    step_seconds: float
    steps: int
    fold_hours: float
    folds: int
    expected_step_seconds: float = 0.0
    held_out_hours: float = 0.0


class Forecast(Record):
    """The time that a plan's line-up takes on its device.

    Attributes:
        flops_per_second: Speed of the device that this was computed with.
        calibrated: Whether steps follow from speeds by kind of operation (`autoseg calibrate`), not from that alone.
        configurations: Of the line-up, in its order.
        lineup_hours: All folds of all of them, one after the other, with their held-out cases.
    """

    schema_version: Literal[1] = 1
    plan: str
    device: str
    flops_per_second: float
    calibrated: bool = False
    configurations: tuple[ConfigurationForecast, ...]
    lineup_hours: float
