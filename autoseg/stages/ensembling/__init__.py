"""What only a measurement decides: which candidates predict together, and which cleaning steps help."""

from __future__ import annotations

from autoseg.stages.ensembling.counting import CaseReader, HeldOut, held_out_cases
from autoseg.stages.ensembling.postprocessing import choose_postprocessing
from autoseg.stages.ensembling.selection import choose
from autoseg.stages.ensembling.unmeasured import take_first

__all__ = ["CaseReader", "HeldOut", "choose", "choose_postprocessing", "held_out_cases", "take_first"]
