"""What only a measurement decides: which candidates predict together, and which cleaning steps help."""

from __future__ import annotations

from autoseg.stages.ensembling.appearance import measure_traits
from autoseg.stages.ensembling.by_class import choose_by_class
from autoseg.stages.ensembling.calibrating import calibrate
from autoseg.stages.ensembling.counting import CaseReader, HeldOut, held_out_cases
from autoseg.stages.ensembling.cross_fitting import cross_fit, estimates, figure_table
from autoseg.stages.ensembling.likeness import fit_likeness
from autoseg.stages.ensembling.postprocessing import FigureRows, choose_postprocessing
from autoseg.stages.ensembling.quality import PREDICTED, fit_quality, hear_voices
from autoseg.stages.ensembling.question import Question, ask
from autoseg.stages.ensembling.selection import Budget, choose
from autoseg.stages.ensembling.unmeasured import take_first

__all__ = [
    "PREDICTED",
    "Budget",
    "CaseReader",
    "FigureRows",
    "HeldOut",
    "Question",
    "ask",
    "calibrate",
    "choose",
    "choose_by_class",
    "choose_postprocessing",
    "cross_fit",
    "estimates",
    "figure_table",
    "fit_likeness",
    "fit_quality",
    "hear_voices",
    "held_out_cases",
    "measure_traits",
    "take_first",
]
