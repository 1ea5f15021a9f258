"""How good a prediction is thought to be, before anybody has drawn the truth."""

from __future__ import annotations

from autoseg.records.record import Record


class QualityModel(Record):
    """A straight line from what the probabilities say to the Dice of one structure, fitted out of fold.

    Attributes:
        structure: Or region.
        weights: Of 1, the expected Dice and the logarithm of the predicted volume (voxels + 1).
        half_width: Of the interval that holds the true Dice of 90 of 100 new cases: the conformal quantile of the
            residuals of cases that the line was fitted without, patients never split.
        coverage: Share of these cases inside such an interval; near 0.9 by construction.
        spearman: Rank correlation of their predicted and true Dice; nan where one of the two never changes.
        cases: With a Dice to learn from.
    """

    structure: str
    weights: tuple[float, float, float]
    half_width: float
    coverage: float
    spearman: float
    cases: int


class PredictedScore(Record):
    """The Dice that one structure of one case is thought to have, with its 90 % interval."""

    structure: str
    dice: float
    low: float
    high: float


class PredictedQuality(Record):
    """Stands beside the maps of doubt of one case."""

    schema_version: int = 1
    case: str
    scores: tuple[PredictedScore, ...]
