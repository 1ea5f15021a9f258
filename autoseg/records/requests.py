"""What a user may say about a command; everything else follows from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autoseg.records.choice import Metric
from autoseg.records.metrics import DEFAULT_FAMILIES, Family


@dataclass(frozen=True)
class PlanRequest:
    """What a user may say about a plan; the rules decide everything else.

    Attributes:
        presets: Names or paths; ("auto",) lets the planner choose.
        minutes: Budget of the whole training.
        settings: Keys of the presets that are set by hand -> value as typed.
        calibration: File of the device that is planned for; empty for the device at hand.
    """

    plan: str = "default"
    presets: tuple[str, ...] = ("unet",)
    memory_gb: float | None = None
    minutes: float | None = None
    device: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    calibration: str = ""


@dataclass(frozen=True)
class TrainRequest:
    """What a user may say about training.

    Attributes:
        ranks: Processes that train one model together, on a card each or on one CPU.
        tensorboard: Whether each epoch is written for TensorBoard as well.
    """

    plan: str = "default"
    folds: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    variant: str = "base"
    seed: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    minutes: float | None = None
    device: str | None = None
    pretrained: str | None = None
    ranks: int = 1
    tensorboard: bool = False


@dataclass(frozen=True)
class SelectRequest:
    """What a user may say about the choice of an ensemble.

    Attributes:
        metric: What the best is best in.
        seconds_per_case: The most that its members may take for one case together; None: no bound.
        per_class: Whether each structure may have weights of its own.
    """

    plan: str = "default"
    metric: Metric = "dice"
    seconds_per_case: float | None = None
    per_class: bool = False


@dataclass(frozen=True)
class PredictRequest:
    """What a user may say about a prediction.

    Attributes:
        format: None: NIfTI, or pictures where pictures came in.
        uncertainty: Whether maps of its doubt are written as well.
        memory_gb: What windows and the logits of a scan may take at once; None takes half of what is free.
        precision: What the networks compute in; None: what they were trained in, where the device is fast in it.
        fast: Whether a quick pass finds where structures are, and only that region is predicted.
        probabilities: Whether the probability of every structure is written as well.
    """

    plan: str = "default"
    members: tuple[str, ...] = ()
    device: str | None = None
    mirror: bool = True
    step_fraction: float = 0.5
    resume: bool = False
    format: str | None = None
    label_file: bool = False
    new_uids: bool = False
    hide_patient_id: bool = False
    uncertainty: bool = False
    memory_gb: float | None = None
    precision: str | None = None
    fast: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class ExpectedCost:
    """What predicting a scan will take, as its header tells.

    Attributes:
        case: Its id.
        seconds: Of computing, at the pace of this device.
        memory_gb: Of the whole process at the worst moment; on a card without the program itself.
        tiles: Into which it is cut so that its logits fit the memory.
    """

    case: str
    seconds: float
    memory_gb: float
    tiles: int


@dataclass(frozen=True)
class EvaluateRequest:
    """What a user may say about an evaluation.

    Attributes:
        families: What is computed.
        tolerances: A table of tolerances for the surface Dice; None: the usual ones.
        by: Attributes of the cases, `lesion_count` or `lesion_place`, to show parts of the cases by.
        success_dice: From which Dice on a case counts as a success.
        output: CSV file for every score; lesions go beside it, into `<name>_lesions.csv`.
        workers: Processes; None: as files and machine suit.
    """

    families: frozenset[Family] = DEFAULT_FAMILIES
    tolerances: Path | None = None
    by: tuple[str, ...] = ()
    success_dice: float = 0.7
    output: Path | None = None
    workers: int | None = None


@dataclass(frozen=True)
class FrocRequest:
    """What a user may say about a free-response curve.

    Attributes:
        model: `ModelId.candidate()`; None: the chosen ensemble, or the only candidate.
        structures: Names; empty: all.
        most_false_positives: What the operating point must stay within, a case; infinite: the greatest F1.
    """

    model: str | None = None
    structures: tuple[str, ...] = ()
    most_false_positives: float = math.inf


@dataclass(frozen=True)
class ExplainRequest:
    """What a user may say about what a model looks at in a held-out case.

    Attributes:
        model: `ModelId.candidate()`; None: the member of the ensemble with the greatest weight, or the only candidate.
        structures: A map each; empty: one map of all that is drawn.
        method: None: attention where the network has it, else gradients.
        output: Folder to write to; None: beside the report.
    """

    plan: str = "default"
    case: str = ""
    model: str | None = None
    structures: tuple[str, ...] = ()
    method: Literal["attention", "gradient"] | None = None
    output: Path | None = None
    device: str | None = None


@dataclass(frozen=True)
class ExportRequest:
    """What a user may say about an export: which models, and the places to write; None leaves one out.

    Attributes:
        output: The model file.
        onnx: Folder for ONNX networks.
        container: Folder to build a container from.
    """

    plan: str = "default"
    members: tuple[str, ...] = ()
    output: Path | None = None
    onnx: Path | None = None
    container: Path | None = None
    licence: str = ""
    intended_use: str = ""
