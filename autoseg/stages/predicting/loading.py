"""From model folders to networks that are ready to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from autoseg.networks import catalog, weights
from autoseg.records.choice import Share
from autoseg.records.configuration import Configuration
from autoseg.records.errors import DataError, UsageError
from autoseg.records.model import TrainedModel
from autoseg.records.plan import Plan
from autoseg.stages.predicting.fields import Member
from autoseg.storage import read_record, sha256_of
from autoseg.workspace import Workspace


def load_member(folders: Sequence[Path], *, weight: Share = 1.0, device: str = "cpu") -> Member:
    """Load the trained folds of one candidate.

    Args:
        folders: One training folder a fold; each holds `model.json` and `model.safetensors`.
        weight: The candidate's share in an ensemble.
        device: A torch device.

    Raises:
        UsageError: A folder has no finished training.
        DataError: The weights are not those that `model.json` speaks of, or not finite.
    """
    models = [read_record(folder / "model.json", TrainedModel, missing="Train this fold first.") for folder in folders]
    if not models:
        raise UsageError("there is no trained model", fix="Run `autoseg train` first.")
    first = models[0]
    for folder, other in zip(folders, models, strict=True):
        if other.configuration.architecture != first.configuration.architecture:
            raise DataError(
                f"this fold was trained with another network than {folders[0]}",
                file=folder,
                fix="Train the folds again under one plan.",
                code="mixed_folds",
            )
    networks = tuple(_network(folder, model, device) for folder, model in zip(folders, models, strict=True))
    return Member(
        name=first.model.candidate(),
        keys=tuple(model.model.key() for model in models),
        configuration=of_folds(models),
        networks=networks,
        weight=weight,
        digest="+".join(model.weights_sha256[:16] for model in models),
    )


def of_folds(models: Sequence[TrainedModel]) -> Configuration:
    """Return the configuration of one candidate's folds together.

    Where they work on regions, each fold chose a threshold by its own training cases: the lowest one misses the least.
    """
    configuration = models[0].configuration
    if configuration.regions is None:
        return configuration
    chosen = [item.configuration.regions.threshold for item in models if item.configuration.regions is not None]
    known = [threshold for threshold in chosen if threshold is not None]
    regions = configuration.regions.model_copy(update={"threshold": min(known, default=None)})
    return configuration.model_copy(update={"regions": regions})


def load_ensemble(
    work: Workspace, plan: Plan, shares: Mapping[str, Share], *, device: str
) -> tuple[list[Member], dict[str, Member]]:
    """Load candidates with all their trained folds, and the first stages that they need.

    Args:
        work: Where the models lie.
        plan: Whose models.
        shares: Candidate -> weight.
        device: A torch device.

    Raises:
        UsageError: A candidate was never trained; the message lists what was.
    """
    folders: dict[str, list[Path]] = {}
    for model in work.trained(plan.name):
        folders.setdefault(model.candidate(), []).append(work.model(model))

    def load(name: str, weight: Share) -> Member:
        if name not in folders:
            there = ", ".join(folders) or "nothing yet"
            raise UsageError(f"no model {name!r} was trained", fix=f"There is: {there}.", code="no_member")
        return load_member(folders[name], weight=weight, device=device)

    members = [load(name, share) for name, share in shares.items()]
    stages = {}
    for member in members:
        stage = member.configuration.first_stage
        if stage is not None:
            stages[stage] = load(member.name.replace(f"/{member.configuration.name}/", f"/{stage}/"), 1.0)
    return members, stages


def _network(folder: Path, model: TrainedModel, device: str) -> torch.nn.Module:
    file = checked_weights(folder, model)
    network = catalog.unfilled(model.configuration.architecture)
    tensors, _ = weights.load(file)
    weights.load_into(network, tensors, file=file)
    return network.to(device).eval()


def checked_weights(folder: Path, model: TrainedModel) -> Path:
    """Return the file of a run's weights, which are those that `model` speaks of.

    Raises:
        DataError: The file is missing, or holds other weights.
    """
    file = folder / "model.safetensors"
    try:
        found = sha256_of(file)
    except FileNotFoundError:
        raise DataError("the weights are missing", file=file, fix="Train this fold again.") from None
    if found != model.weights_sha256:
        raise DataError(
            f"the weights have the hash {found[:12]}, but model.json speaks of {model.weights_sha256[:12]}",
            file=file,
            fix="Restore both files together, or train this fold again.",
            code="hash_mismatch",
        )
    return file
