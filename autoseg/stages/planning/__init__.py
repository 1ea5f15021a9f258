"""Fingerprint + presets + device -> plan: rule-based choices, as a pure function of small records."""

from autoseg.stages.planning.comparing import Difference, compare
from autoseg.stages.planning.forecasting import forecast
from autoseg.stages.planning.making import make_plan, preparations
from autoseg.stages.planning.presets import change_preset, load_preset, preset_names

__all__ = [
    "Difference",
    "change_preset",
    "compare",
    "forecast",
    "load_preset",
    "make_plan",
    "preparations",
    "preset_names",
]
