"""Which model it is, what its run resolved before the first step, and what is left when it has ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from autoseg.records.configuration import Configuration
from autoseg.records.labels import Labels
from autoseg.records.record import GrowingRecord, Record


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
        grown: Names of kernels that were smaller, interpolated.
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
    grown: tuple[str, ...] = ()
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
