"""Scores: a prediction against its truth, the folds of a candidate together, tables and intervals."""

from autoseg.stages.evaluating.candidates import TrainedCandidate, read_candidates
from autoseg.stages.evaluating.comparing import (
    CandidateRow,
    CandidateStructure,
    CandidateTable,
    compare_candidates,
    patients_of,
)
from autoseg.stages.evaluating.cross_validation import evaluate_folder, pool
from autoseg.stages.evaluating.froc import Froc, FrocPoint, HeldOutLesions, check_folds, count_at_thresholds, froc
from autoseg.stages.evaluating.grouping import (
    LESIONWISE,
    GroupSummary,
    PlaceSummary,
    Scores,
    by_attribute,
    by_lesion_count,
    by_lesion_place,
    scores_of,
    values_by,
)
from autoseg.stages.evaluating.paired_tests import Comparison, compare, smallest_difference
from autoseg.stages.evaluating.ranking import RankedModel, Ranking
from autoseg.stages.evaluating.scoring import missing, score
from autoseg.stages.evaluating.statistics import Interval, interval
from autoseg.stages.evaluating.structure_ranking import RankedStructure, rank_structures
from autoseg.stages.evaluating.summaries import StructureSummary, summarise
from autoseg.stages.evaluating.tables import comparison_frames, lesion_frame, write_scores, write_table
from autoseg.stages.evaluating.tolerances import read_tolerances

__all__ = [
    "LESIONWISE",
    "CandidateRow",
    "CandidateStructure",
    "CandidateTable",
    "Comparison",
    "Froc",
    "FrocPoint",
    "GroupSummary",
    "HeldOutLesions",
    "Interval",
    "PlaceSummary",
    "RankedModel",
    "RankedStructure",
    "Ranking",
    "Scores",
    "StructureSummary",
    "TrainedCandidate",
    "by_attribute",
    "by_lesion_count",
    "by_lesion_place",
    "check_folds",
    "compare",
    "compare_candidates",
    "comparison_frames",
    "count_at_thresholds",
    "evaluate_folder",
    "froc",
    "interval",
    "lesion_frame",
    "missing",
    "patients_of",
    "pool",
    "rank_structures",
    "read_candidates",
    "read_tolerances",
    "score",
    "scores_of",
    "smallest_difference",
    "summarise",
    "values_by",
    "write_scores",
    "write_table",
]
