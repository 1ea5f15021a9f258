"""A model as one file: everything that prediction needs, and what its user should know of it."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from autoseg.records.choice import PostprocessingStep, Share
from autoseg.records.configuration import Configuration
from autoseg.records.evaluation import Evaluation
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.plan import Plan
from autoseg.records.quality import Reliability
from autoseg.records.record import GrowingRecord, Record

MANIFEST = "manifest.json"


class PackagedNetwork(Record):
    """The weights of one fold.

    Attributes:
        key: `ModelId.key()` of the training run.
        file: Its name in the package; `.safetensors` is computed by torch, `.onnx` by onnxruntime.
        bytes: Size of that file.
        sha256: Of that file, 64 hexadecimal digits.
        precision: What it was trained in, and predicts in where the device is fast in it.
    """

    key: str
    file: str
    bytes: int
    sha256: str
    precision: Literal["float32", "bfloat16", "float16"]


class PackagedMember(GrowingRecord):
    """One candidate with the networks of its folds.

    Attributes:
        name: `ModelId.candidate()`.
        weight: Its share in the ensemble; 1 for a first stage.
        class_weights: Its share in each channel of the output, where structures are mixed differently; else empty.
        configuration: The plan's, with the run's `--set` changes.
        networks: One a fold.
    """

    LATER: ClassVar[tuple[str, ...]] = ("class_weights",)

    name: str
    weight: float
    class_weights: tuple[float, ...] = ()
    configuration: Configuration
    networks: tuple[PackagedNetwork, ...]

    @property
    def share(self) -> Share:
        """What it counts among the others."""
        return self.class_weights or self.weight


class Package(Record):
    """The manifest of a model file; its SHA-256 stands for the whole model, because it holds the hash of every file.

    Attributes:
        name: Of the data set.
        origin: Who trained it: `autoseg`, or `nnU-Net v2` for a model that was imported.
        plan: As it was planned, with channels (in the order of the input), labels, corrections and every reason.
        members: What predicts.
        first_stages: What the members that are a second stage take in; by the name of their configuration.
        postprocessing: Applied in order to the merged labels.
        fingerprint: Of the training data; the cases are numbered, their ids stay at home. None where nobody measured.
        evaluation: Scores of what predicts, pooled out of fold, cases numbered likewise; None where there are none.
        reliability: What the chosen ensemble knows of its own doubt; None where the members were named by hand, in
            imported models and in older files.
        licence: Under which the model may be used, in its maker's words; empty when nobody said.
        intended_use: For what, in its maker's words; empty when nobody said.
        notes: What is missing or odd, a line each.
        version: Of autoseg.
        torch_version: Of torch.
    """

    schema_version: Literal[1] = 1
    name: str
    origin: Literal["autoseg", "nnU-Net v2"] = "autoseg"
    plan: Plan
    members: tuple[PackagedMember, ...]
    first_stages: tuple[PackagedMember, ...] = ()
    postprocessing: tuple[PostprocessingStep, ...] = ()
    fingerprint: Fingerprint | None = None
    evaluation: Evaluation | None = None
    reliability: Reliability | None = None
    licence: str = ""
    intended_use: str = ""
    notes: tuple[str, ...] = ()
    version: str
    torch_version: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        networks = self.networks()
        if not self.members or any(not member.networks for member in (*self.members, *self.first_stages)):
            raise ValueError("a package needs a member, and every member a network")
        files = [network.file for network in networks]
        if len(set(files)) != len(files) or MANIFEST in files:
            raise ValueError("two networks lie in one file")
        stages = {stage.configuration.name for stage in self.first_stages}
        needed = {stage for member in self.members if (stage := member.configuration.first_stage)}
        if needed - stages:
            raise ValueError(f"the first stage {', '.join(sorted(needed - stages))} is missing")
        return self

    def networks(self) -> tuple[PackagedNetwork, ...]:
        """Return every network, those of the first stages last."""
        return tuple(network for member in (*self.members, *self.first_stages) for network in member.networks)
