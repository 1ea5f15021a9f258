"""Where the numbers of a report come from: each model's hash, versions and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoseg.records.model import RunRecord, TrainedModel
from autoseg.records.plan import Plan
from autoseg.stages.training import history
from autoseg.stages.training.history import Epoch
from autoseg.storage import read_record
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class ModelRow:
    """One trained model.

    Attributes:
        mean_dice: On its held-out cases; nan where it holds none out or was not scored.
        steps: Done.
        hours: Wall time of training, all pieces of a resumed run together.
        weights: First digits of the weights' SHA-256.
        other_plan: Whether it was trained under another state of the plan than the report's.
    """

    name: str
    cases: int
    mean_dice: float
    steps: int
    hours: float
    batch_size: int
    precision: str
    weights: str
    version: str
    torch_version: str
    other_plan: bool


def model_rows(work: Workspace, plan: Plan) -> list[ModelRow]:
    """Return every trained model of a plan."""
    rows = []
    for model in work.trained(plan.name):
        folder = work.model(model)
        trained, run = read_record(folder / "model.json", TrainedModel), read_record(folder / "run.json", RunRecord)
        scored = work.evaluation(model) if (folder / "evaluation.json").exists() else None
        rows.append(
            ModelRow(
                name=model.key(),
                cases=len(scored.scores) if scored else 0,
                mean_dice=scored.mean_dice() if scored else float("nan"),
                steps=trained.steps,
                hours=trained.seconds / 3600,
                batch_size=run.batch_size,
                precision=run.precision,
                weights=trained.weights_sha256[:12],
                version=trained.version,
                torch_version=run.torch_version,
                other_plan=trained.plan_digest != plan.digest(),
            )
        )
    return rows


def histories(work: Workspace, plan: Plan) -> Mapping[str, Mapping[str, tuple[Epoch, ...]]]:
    """Return candidate -> fold -> its logged epochs."""
    found: dict[str, dict[str, tuple[Epoch, ...]]] = {}
    for model in work.trained(plan.name):
        found.setdefault(model.candidate(), {})[model.fold] = history.read(work.model(model))
    return found
