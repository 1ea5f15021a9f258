"""Scores: a prediction against its truth, the folds of a candidate together, tables and intervals."""

from autoseg.stages.evaluating.comparing import (
    CandidateRow,
    CandidateTable,
    TrainedCandidate,
    compare_candidates,
    patients_of,
    read_candidates,
)
from autoseg.stages.evaluating.cross_validation import evaluate_folder, pool
from autoseg.stages.evaluating.scoring import missing, score
from autoseg.stages.evaluating.statistics import Comparison, Interval, compare, interval
from autoseg.stages.evaluating.tables import StructureSummary, summarise, write_scores

__all__ = [
    "CandidateRow",
    "CandidateTable",
    "Comparison",
    "Interval",
    "StructureSummary",
    "TrainedCandidate",
    "compare",
    "compare_candidates",
    "evaluate_folder",
    "interval",
    "missing",
    "patients_of",
    "pool",
    "read_candidates",
    "score",
    "summarise",
    "write_scores",
]
