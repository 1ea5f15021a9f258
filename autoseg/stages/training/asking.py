"""From what a caller wants to a request that can be trained: settings applied, cases fit and in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoseg.compute import devices
from autoseg.networks.class_weights import class_weights
from autoseg.records.configuration import Configuration, Regions
from autoseg.records.errors import UsageError
from autoseg.records.model import ModelId, RunRecord
from autoseg.records.plan import Plan
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training import apart, extending, pretrained, resolve, sampling
from autoseg.stages.training import settings as recipe_settings
from autoseg.stages.training.request import FoldFacts, Request
from autoseg.storage import read_record


@dataclass(frozen=True)
class TrainingSet:
    """What a fold is trained on.

    Attributes:
        cases: The fold's training cases, in any order.
        digest: Of the preprocessed cases; another one refuses to go on.
        facts: Patients and voxel counts of the cases, for the recipes that ask for them.
        regions: Where a second stage works, as chosen from what its first stage says of these cases.
    """

    cases: Sequence[PreprocessedCase]
    digest: str = ""
    facts: FoldFacts = field(default_factory=FoldFacts)
    regions: Regions | None = None


@dataclass(frozen=True)
class Terms:
    """How a model is trained, beside its plan.

    Attributes:
        settings: Changes of the recipe, key -> value as typed (`--set`).
        budget_seconds: Wall time of the whole run, measuring included; None trains the recipe's full length. A
            resumed run keeps the number of steps that its first call resolved.
        device: As torch names it.
        weights_file: `.safetensors`, or nnU-Net's `.pth`, to start from; channels, labels and patch may be others.
        ranks: Processes that share each batch: on the CPU, or on as many cards from the first on. Each has the
            planned batch, and the run has fewer steps, so that it sees as many samples. A resumed run may have
            another number of them.
        tensorboard: Whether each epoch is written for TensorBoard as well.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    budget_seconds: float | None = None
    device: str = "cpu"
    weights_file: Path | None = None
    ranks: int = 1
    tensorboard: bool = False


def request(plan: Plan, model: ModelId, folder: Path, data: TrainingSet, terms: Terms) -> Request:
    """Return what one call of `fit` asks for; nothing is written, and no case is read.

    Raises:
        UsageError: A setting means nothing, or needs what nobody counted.
        UserError: The weights to start from cannot be read.
    """
    began = time.perf_counter()
    settings, extension = extending.asked(folder, terms.settings)
    configuration = recipe_settings.apply(plan.configuration(model.configuration), settings)
    if data.regions is not None:
        configuration = configuration.model_copy(update={"regions": data.regions})
    return Request(
        plan_digest=plan.digest(),
        model=model,
        labels=plan.labels,
        configuration=configuration,
        settings=settings,
        cases=sorted(data.cases, key=lambda case: case.id),
        cases_digest=data.digest,
        budget_seconds=terms.budget_seconds,
        device=terms.device,
        began=began,
        extension=extension,
        optional=tuple(index for index, channel in enumerate(plan.channels) if channel.optional),
        given=None if terms.weights_file is None else pretrained.load(terms.weights_file),
        class_weights=_class_weights(configuration, plan, data.facts),
        ranks=terms.ranks,
        tensorboard=terms.tensorboard,
    )


def _class_weights(configuration: Configuration, plan: Plan, facts: FoldFacts) -> tuple[float, ...]:
    kind = configuration.recipe.class_weights
    if kind != "none" and not facts.voxels:
        raise UsageError(f"class_weights={kind} needs voxel counts", fix="Run `autoseg plan_and_preprocess` first.")
    return class_weights(kind, facts.voxels, plan.labels) or ()


def checked(request: Request) -> Request:
    """Return the request with its device found, its cases fit to train on, and in memory where they fit.

    Raises:
        UsageError: There is no such device.
        DataError: A case cannot be read or trained on; it is named.
    """
    devices.find(request.device)
    previous = request.configuration.previous is not None
    taken = len(request.labels.structures) if previous else 0
    slices = 2 * request.configuration.context_slices + 1
    channels = (request.configuration.architecture.input_channels - taken) // slices
    regions = request.configuration.regions is not None
    sampling.check_cases(request.cases, channels=channels, previous=previous, regions=regions)
    return replace(request, cases=sampling.hold(request.cases, resolve.held_bytes(request.ranks)), stored=request.cases)


def set_apart(request: Request, folder: Path, facts: FoldFacts) -> Request:
    """Return the request with the cases to measure on taken out of those to train on; a begun run keeps its own."""
    if (folder / "run.json").exists():
        chosen = set(read_record(folder / "run.json", RunRecord).monitored)
    else:
        recipe = request.configuration.recipe
        chosen = set(apart.choose(request.cases, facts.groups, recipe, seed=request.model.seed))
    return replace(
        request,
        cases=[case for case in request.cases if case.id not in chosen],
        monitored=[case for case in request.cases if case.id in chosen],
    )
