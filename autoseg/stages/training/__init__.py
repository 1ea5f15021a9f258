"""PreprocessedCases + Plan -> one trained model: resumable, within a budget, the fold's own cases only."""

from autoseg.stages.training.asking import Terms, TrainingSet
from autoseg.stages.training.course import Progress
from autoseg.stages.training.loop import fit

__all__ = ["Progress", "Terms", "TrainingSet", "fit"]
