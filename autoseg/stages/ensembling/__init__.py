"""What only a measurement decides: which candidates predict together, and which cleaning steps help."""

from __future__ import annotations

from autoseg.stages.ensembling.counting import CaseReader, HeldOut
from autoseg.stages.ensembling.postprocessing import choose_postprocessing
from autoseg.stages.ensembling.selection import choose

__all__ = ["CaseReader", "HeldOut", "choose", "choose_postprocessing"]
