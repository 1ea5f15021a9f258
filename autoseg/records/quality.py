"""How good a prediction is thought to be, before anybody has drawn the truth."""

from __future__ import annotations

from typing import ClassVar, Literal

from autoseg.records.likeness import Likeness, Unlikeness
from autoseg.records.record import GrowingRecord, Record
from autoseg.records.temperature import TemperatureFit


class Voice(Record):
    """The signs that the networks of one fold usually show; networks differ in how sure they are, whatever they see.

    Attributes:
        fold: Its name.
        centre: Mean of each sign over the cases that the fold held out, (structures, signs).
        scale: Standard deviation likewise, above 0.
    """

    fold: str
    centre: tuple[tuple[float, ...], ...]
    scale: tuple[tuple[float, ...], ...]


class QualityModel(GrowingRecord):
    """A straight line from what a prediction says of itself to the Dice of one structure, fitted out of fold.

    Attributes:
        structure: Or region.
        features: What it looks at, by the names of `images.signs.ALL_SIGNS`, each against what its fold usually shows.
        weights: Of 1, and of each feature.
        half_width: Of the interval that holds the true Dice of 90 of 100 new cases: the conformal quantile of the
            residuals of cases that the line was fitted without, patients never split.
        coverage: Share of these cases inside such an interval; near 0.9 by construction.
        spearman: Rank correlation of their predicted and true Dice; nan where one of the two never changes.
        cases: With a Dice to learn from.
        figure: What is predicted: the Dice, or the surface Dice at the tolerance that held-out cases were scored by.
    """

    LATER: ClassVar[tuple[str, ...]] = ("figure",)

    structure: str
    features: tuple[str, ...] = ("expected_dice", "log_volume")
    weights: tuple[float, ...]
    half_width: float
    coverage: float
    spearman: float
    cases: int
    figure: Literal["dice", "surface_dice"] = "dice"


class PredictedScore(Record):
    """The Dice that one structure of one case is thought to have, with its 90 % interval.

    Attributes:
        dice, low, high: It, and its interval.
        surface_dice, surface_low, surface_high: The same of the surface Dice; None where nothing was learnt of it.
    """

    structure: str
    dice: float
    low: float
    high: float
    surface_dice: float | None = None
    surface_low: float | None = None
    surface_high: float | None = None


class PredictedQuality(Record):
    """Stands beside the maps of doubt of one case.

    Attributes:
        scores: A structure each; those that nothing could be learnt of are missing.
        unlikeness: How unlike the training scans it is; None where that was not measured.
    """

    schema_version: int = 1
    case: str
    scores: tuple[PredictedScore, ...]
    unlikeness: Unlikeness | None = None

    def below(self, limit: float) -> tuple[PredictedScore, ...]:
        """Return the scores whose interval reaches below a Dice of `limit`."""
        return tuple(score for score in self.scores if score.low < limit)

    def refers(self, limit: float) -> bool:
        """Return whether a person must look at the case before a Dice of `limit` is promised.

        That is so where an interval reaches below it, where the scan is unlike those of the training, for which no
        interval holds, and where nothing could be learnt: nobody can vouch for it.
        """
        unlike = self.unlikeness is not None and self.unlikeness.flagged
        return bool(self.below(limit)) or unlike or not self.scores


class Reliability(Record):
    """What a model knows of its own doubt; travels with it.

    Attributes:
        calibration: How far its probabilities may be believed; None where nothing could be measured.
        quality: What predicts the Dice of a new case, a structure each.
        voices: What each fold usually shows; empty in older files, whose signs were taken as they are.
        likeness: What tells a scan unlike those of the training; None where they were too few.
    """

    calibration: TemperatureFit | None = None
    quality: tuple[QualityModel, ...] = ()
    voices: tuple[Voice, ...] = ()
    likeness: Likeness | None = None

    @property
    def signs(self) -> int:
        """How many signs of a prediction it looks at; older files know fewer, or 0."""
        return len(self.voices[0].centre[0]) if self.voices else 0

    @property
    def temperature(self) -> float:
        """What logits are divided by before their doubt is told."""
        return self.calibration.temperature if self.calibration is not None else 1.0
