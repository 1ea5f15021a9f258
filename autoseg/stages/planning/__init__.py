"""Fingerprint + presets + device -> plan: rule-based choices, as a pure function of small records."""

from autoseg.stages.planning.automatic import AUTO, Situation, candidates, choose_presets
from autoseg.stages.planning.class_vectors import with_class_vectors
from autoseg.stages.planning.comparing import Difference, compare
from autoseg.stages.planning.forecasting import forecast
from autoseg.stages.planning.making import make_plan, preparations
from autoseg.stages.planning.presets import change_preset, load_preset, preset_names

__all__ = [
    "AUTO",
    "Difference",
    "Situation",
    "candidates",
    "change_preset",
    "choose_presets",
    "compare",
    "forecast",
    "load_preset",
    "make_plan",
    "preparations",
    "preset_names",
    "with_class_vectors",
]
