"""What training, prediction and evaluation leave behind."""

from __future__ import annotations

from typing import ClassVar, Literal

from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels
from autoseg.records.likeness import Likeness
from autoseg.records.metrics import NAMES
from autoseg.records.plan import Configuration
from autoseg.records.quality import QualityModel, Reliability, Voice
from autoseg.records.record import GrowingRecord, Record
from autoseg.records.temperature import TemperatureFit
from autoseg.records.volumes import Passage


class CaseMarker(Record):
    """Stands beside a preprocessed case and says that it is complete.

    Attributes:
        inputs_digest: Digest of the case's sources (path, size, time of change), the corrections and everything in
            the configuration that preprocessing reads; another one means that the case must be done again.
        files: Name -> SHA-256 of each array file beside the marker.
    """

    case: str
    inputs_digest: str
    files: dict[str, str]
    annotated: tuple[int, ...]
    passage: Passage
    voxels: tuple[int, ...]


class ModelId(Record):
    """Which model: everything that tells one training run from another.

    Attributes:
        variant: Name of a set of `--set` changes; `base` when there is none.
        fold: "0", "1", ... or "all".
    """

    dataset: str
    plan: str
    configuration: str
    variant: str = "base"
    seed: int = 0
    fold: str

    def key(self) -> str:
        """Return a short name for people and tables: plan/configuration/variant/seed/fold."""
        return f"{self.candidate()}/fold_{self.fold}"

    def candidate(self) -> str:
        """Return the name shared by the folds of one model: plan/configuration/variant_s<seed>."""
        return f"{self.plan}/{self.configuration}/{self.variant}_s{self.seed}"


class Extension(Record):
    """A run that ended after `from_step` steps went on to `to_step`, with its schedule from the start once more."""

    from_step: int
    to_step: int


class Pretrained(Record):
    """What a run started from.

    Attributes:
        file: Of the weights.
        sha256: Of the file.
        loaded: How many tensors were taken as they were.
        adapted: Names of those brought to other channels.
        new: Names of those drawn at random.
        unused: Names of what the file holds beside.
        line: The same for people.
    """

    file: str
    sha256: str
    loaded: int
    adapted: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    line: str = ""


class RunRecord(GrowingRecord):
    """What was resolved once, before the first step; resuming obeys it.

    Attributes:
        model: Whose run it is.
        configuration_digest: Digest of the Configuration, `--set` changes included; another one refuses to resume.
        cases_digest: Digest of the preprocessed cases' markers; another one refuses to resume.
        configuration: What is trained, `--set` changes included; kept so that a refusal can say what changed.
        labels: Of the plan, for the same reason.
        settings: The `--set` changes, key -> value as typed.
        steps: In the whole run.
        batch_size: The plan's, unless memory forced a smaller one (then `batch_reason` says so).
        precision, memory_format, compiled, threads: As measured fastest.
        step_seconds: Measured before the first step.
        budget_seconds: The wall time that `steps` were resolved from; 0 when none was given.
        torch_version: Another one resumes with a warning: the last digits may differ.
        monitored: Cases set apart to measure on; not trained on.
        pretrained: The weights that it started from; None where they were drawn.
        extensions: What was added to the run after it had ended; `steps` are those before.
        class_weights: Of the loss, from the voxel counts of the training cases; empty where all count the same.
    """

    LATER: ClassVar[tuple[str, ...]] = ("class_weights", "monitored", "extensions", "pretrained")

    schema_version: Literal[1] = 1
    model: ModelId
    configuration_digest: str
    configuration: Configuration
    labels: Labels
    cases_digest: str
    settings: dict[str, str] = {}
    steps: int
    batch_size: int
    batch_reason: str = ""
    precision: Literal["float32", "bfloat16", "float16"]
    memory_format: Literal["contiguous", "channels_last"]
    compiled: bool
    threads: int
    step_seconds: float
    budget_seconds: float = 0.0
    torch_version: str
    version: str
    class_weights: tuple[float, ...] = ()
    monitored: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = ()
    pretrained: Pretrained | None = None


class StoredField(Record):
    """Stands beside the probabilities that a model gave a held-out case, and tells the way home.

    Attributes:
        inputs_digest: Digest of the weights and of the case's sources; another one means predict again.
        seconds: What the prediction took.
        steadiness: (structures, signs) of `images.steadiness`: what the model says of the scan a little changed; empty
            in older files.
    """

    case: str
    member: str
    passage: Passage
    inputs_digest: str
    seconds: float
    steadiness: tuple[tuple[float, ...], ...] = ()


class TrainedModel(Record):
    """Stands beside the weights of a finished run; with them, all that prediction needs besides the plan.

    Attributes:
        steps: Done; fewer than planned where the run was stopped on a plateau.
        plan_digest: Of the plan that it was trained under.
        weights_sha256: Of `model.safetensors`.
        configuration: The plan's, with the run's `--set` changes.
        seconds: Wall time of training, all pieces of a resumed run together.
    """

    schema_version: Literal[1] = 1
    model: ModelId
    plan_digest: str
    weights_sha256: str
    steps: int
    seconds: float
    configuration: Configuration
    version: str


class LesionDetail(Record):
    """One lesion of the truth, found or missed, or one predicted piece that is none.

    Attributes:
        centre_mm: Its mean voxel in the patient, (x, y, z) in LPS, in mm.
        place: Where that lies about the middle of the scan: `left anterior superior` and the like.
        diameter_mm: Of the ball (in 2D the disc) with its content.
        dice: A found lesion against all pieces that touch it; 0 for the others.
    """

    kind: Literal["found", "missed", "false_positive"]
    centre_mm: Triple
    place: str
    volume_ml: float
    diameter_mm: float
    dice: float


class LesionScore(Record):
    """One structure of one case lesion by lesion; the rule of matching stands in `images/measures/lesions.py`.

    Attributes:
        lesions, found: Of the truth, and those of them that were found.
        false_positives: Predicted pieces that touch no lesion.
        small_lesions, small_found, small_false_positives: Of these, those below 10 mm diameter.
        sensitivity, precision, lesion_dice, panoptic_quality, segmentation_quality, recognition_quality: 0 to 1; nan
            without lesions and pieces, 0 when exactly one side has none.
        details: Every lesion, then every false positive.
    """

    lesions: int
    found: int
    false_positives: int
    small_lesions: int
    small_found: int
    small_false_positives: int
    sensitivity: float
    precision: float
    lesion_dice: float
    panoptic_quality: float
    segmentation_quality: float
    recognition_quality: float
    details: tuple[LesionDetail, ...] = ()


class StructureScore(Record):
    """How well one structure (or region) of one case was segmented; nan = nothing to score, or nobody asked.

    A figure is a field rather than a row of a mapping: its unit stands in its name, a slip of the pen is an error, and
    every file has the same columns. `records/metrics.py` lists them all; `docs/metrics.md` defines them.

    Attributes:
        dice, iou, precision, recall, surface_dice: 0 to 1.
        hd95_mm: Maximum of the two sides' 95th percentiles, in mm; infinite when exactly one side is empty.
        surface_dice_tolerance_mm: Distance that still counted as agreement.
        assd_mm: Mean distance over both surfaces, in mm; infinite when exactly one side is empty, nan in older files.
        lesion_f1: Harmonic mean of the sensitivity and precision of detecting lesions, 0 to 1; nan when nobody asked.
        specificity: Share of the voxels outside the truth that were left alone, 0 to 1.
        hd_mm: Greatest distance of either surface to the other, in mm; infinite as `hd95_mm`.
        slice_dice: Mean over slices of Dice in the slice, 0 to 1.
        added_path_mm: Contour of the truth that the prediction lacks, in mm.
        gi_tract_score: 0.4 x slice-wise Dice + 0.6 x (1 - normalised Hausdorff distance), 0 to 1.
        lesions: Lesion by lesion; None when nobody asked.
    """

    structure: str
    dice: float
    iou: float
    precision: float
    recall: float
    hd95_mm: float
    surface_dice: float
    surface_dice_tolerance_mm: float
    truth_ml: float
    predicted_ml: float
    assd_mm: float = float("nan")
    lesion_f1: float = float("nan")
    specificity: float = float("nan")
    hd_mm: float = float("nan")
    slice_dice: float = float("nan")
    added_path_mm: float = float("nan")
    gi_tract_score: float = float("nan")
    lesions: LesionScore | None = None

    def figures(self) -> dict[str, float]:
        """Return every figure of `records/metrics.py` by its name; nan for what is not there."""
        own = self.model_dump(exclude={"structure", "lesions"})
        own["volume_difference_ml"] = self.predicted_ml - self.truth_ml
        if self.lesions is not None:
            counted = self.lesions.model_dump(exclude={"details"})
            own |= {LESION_FIGURES.get(name, name): float(value) for name, value in counted.items()}
        return {name: own.get(name, float("nan")) for name in NAMES}


# How fields of a LesionScore are called in a table where they stand beside other figures.
LESION_FIGURES = {
    "found": "lesions_found",
    "false_positives": "lesion_false_positives",
    "small_found": "small_lesions_found",
    "small_false_positives": "small_lesion_false_positives",
    "sensitivity": "lesion_sensitivity",
    "precision": "lesion_precision",
}


class CaseScore(Record):
    """The scores of one case. `missing` = there was no prediction: every structure counts as failed."""

    case: str
    structures: tuple[StructureScore, ...]
    missing: bool = False


class Evaluation(Record):
    """Scores of one model, one candidate over its folds, or an ensemble.

    Attributes:
        members: Names of what was evaluated (`ModelId.key()` or `.candidate()`).
        scores: One a case.
        inputs_digest: Digest of what produced it, to know when it is stale.
    """

    schema_version: Literal[1] = 1
    members: tuple[str, ...]
    scores: tuple[CaseScore, ...]
    inputs_digest: str = ""

    def mean_dice(self) -> float:
        """Return the mean over structures of the mean over cases of Dice, nan left out; nan when nothing counts."""
        by_structure: dict[str, list[float]] = {}
        for score in self.scores:
            for item in score.structures:
                if item.dice == item.dice:
                    by_structure.setdefault(item.structure, []).append(item.dice)
        means = [sum(values) / len(values) for values in by_structure.values()]
        return sum(means) / len(means) if means else float("nan")


class PostprocessingStep(Record):
    """One cleaning step for one structure: `keep_largest`, `drop_below` (value in mm3) or `fill_holes`."""

    structure: str
    kind: Literal["keep_largest", "drop_below", "fill_holes"]
    value: float = 0.0


Metric = Literal["dice", "surface_dice", "lesion_f1", "mean_rank"]
Figure = Literal["dice", "surface_dice", "lesion_f1"]


# Of a member among the others: one number, or one a channel of the output where structures are mixed differently.
Share = float | tuple[float, ...]


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
