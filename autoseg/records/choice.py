"""What predicts new scans, what else was looked at, and how good it is thought to be."""

from __future__ import annotations

from typing import ClassVar, Literal

from autoseg.records.likeness import Likeness
from autoseg.records.quality import QualityModel, Reliability, Voice
from autoseg.records.record import GrowingRecord, Record
from autoseg.records.temperature import TemperatureFit

Metric = Literal["dice", "surface_dice", "lesion_f1", "mean_rank"]
Figure = Literal["dice", "surface_dice", "lesion_f1"]


# Of a member among the others: one number, or one a channel of the output where structures are mixed differently.
Share = float | tuple[float, ...]


class PostprocessingStep(Record):
    """One cleaning step for one structure: `keep_largest`, `drop_below` (value in mm3) or `fill_holes`."""

    structure: str
    kind: Literal["keep_largest", "drop_below", "fill_holes"]
    value: float = 0.0


class Candidate(Record):
    """One thing that selection looked at, chosen or not.

    Attributes:
        score: Mean of the metric that decided, more is better; of `mean_rank` the share of the others in its round
            that it beats. nan in older files.
        step: The round, 1 for single candidates; 0 for what could not be compared.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    mean_dice: float
    score: float = float("nan")
    step: int
    chosen: bool
    because: str


class CrossFit(Record):
    """The choice that was made without one part of the cases, which then judged it.

    Attributes:
        part: Name of the part that had no say: a fold, or a share of the patients where there is only one fold.
        cases: In that part.
    """

    part: str
    cases: int
    members: tuple[str, ...]
    weights: tuple[float, ...]
    postprocessing: tuple[PostprocessingStep, ...] = ()


class Estimate(Record):
    """How good a choice is in one figure, twice.

    Attributes:
        optimistic: Mean over the cases that made the choice: too good, because the best of many is partly luck.
        honest: Mean over the same cases, each judged by a choice (post-processing included) that it had no say in.
        low, high: 95 % interval of `honest`, patients resampled; nan with fewer than five patients.
    """

    figure: Figure
    optimistic: float
    honest: float
    low: float
    high: float


class EnsembleChoice(GrowingRecord):
    """What predicts new scans.

    Attributes:
        members: Candidate names (`ModelId.candidate()`); every fold that was trained takes part.
        weights: One a member, adding up to 1; with `class_weights` their mean over the structures.
        class_weights: One row a member, a number a channel of the output (background and structures, or regions), each
            channel adding up to 1; empty where all structures have the same `weights`.
        folds: Folds that were trained for every member.
        postprocessing: Applied in order to the merged labels.
        candidates: Everything that was looked at; the losers are kept too.
        mean_dice: Pooled out-of-fold, after post-processing; of the cases that made the choice, so it is optimistic.
        metric: What the best was best in.
        seconds_per_case: What a prediction costs with all folds, as measured on held-out cases; None when unknown.
        estimates: Optimistic and honest, a figure each.
        cross_fits: The choices behind the honest estimates.
        quality: What predicts the Dice of a new case, a structure each; those with too few cases are missing.
        calibration: How far the members' probabilities may be believed; None where nothing could be measured.
        voices: The signs of quality that each fold usually shows.
        likeness: What tells a scan unlike those of the training; None where they were too few.
        notes: What is missing (folds, members), for people.
    """

    LATER: ClassVar[tuple[str, ...]] = ("likeness", "voices", "class_weights")

    schema_version: Literal[1] = 1
    plan: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    class_weights: tuple[tuple[float, ...], ...] = ()
    folds: tuple[str, ...]
    postprocessing: tuple[PostprocessingStep, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    mean_dice: float
    metric: Metric = "dice"
    seconds_per_case: float | None = None
    estimates: tuple[Estimate, ...] = ()
    cross_fits: tuple[CrossFit, ...] = ()
    calibration: TemperatureFit | None = None
    quality: tuple[QualityModel, ...] = ()
    voices: tuple[Voice, ...] = ()
    likeness: Likeness | None = None
    inputs_digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, Share]:
        """Member -> its share in a prediction."""
        return dict(zip(self.members, self.class_weights or self.weights, strict=True))

    @property
    def reliability(self) -> Reliability:
        """What it knows of its own doubt."""
        return Reliability(
            calibration=self.calibration, quality=self.quality, voices=self.voices, likeness=self.likeness
        )
