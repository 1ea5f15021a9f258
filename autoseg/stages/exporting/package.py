"""A workspace's chosen models -> one file that predicts anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

from autoseg import __version__
from autoseg.compute import archives
from autoseg.records.choice import EnsembleChoice, Share
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import Evaluation
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.model import ModelId, RunRecord, TrainedModel
from autoseg.records.package import MANIFEST, Package, PackagedMember, PackagedNetwork
from autoseg.records.plan import Plan
from autoseg.stages.predicting.loading import checked_weights, of_folds
from autoseg.storage import read_record
from autoseg.workspace import Workspace

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Contents:
    """A manifest and what stands behind the names in it: bytes, or a file that holds them."""

    package: Package
    files: Mapping[str, Path | bytes]


def collect(
    work: Workspace, plan_name: str, *, members: Sequence[str] = (), licence: str = "", intended_use: str = ""
) -> Contents:
    """Return what a model file of this workspace holds.

    Args:
        work: Where the models lie.
        plan_name: Whose models.
        members: Candidates to take, equally weighted and without cleaning; none takes the chosen ensemble.
        licence: In the maker's words.
        intended_use: Likewise.

    Raises:
        UsageError: Nothing was chosen, or a candidate was never trained.
        DataError: Weights are not those that were trained.
    """
    plan = work.plan(plan_name)
    choice = None if members else work.choice(plan.name)
    shares: Mapping[str, Share] = choice.shares if choice else dict.fromkeys(members, 1.0)
    trained = _trained(work, plan)
    files: dict[str, Path | bytes] = {}
    chosen = [_member(work, trained, name, share, files) for name, share in shares.items()]
    stages: dict[str, PackagedMember] = {}
    for member in chosen:
        stage = member.configuration.first_stage
        if stage is not None:
            name = member.name.replace(f"/{member.configuration.name}/", f"/{stage}/")
            stages[stage] = stages.get(stage) or _member(work, trained, name, 1.0, files)
    fingerprint, evaluation = _anonymous(_fingerprint(work), _evaluation(work, plan, choice))
    package = Package(
        name=work.name,
        plan=plan,
        members=tuple(chosen),
        first_stages=tuple(stages.values()),
        postprocessing=choice.postprocessing if choice else (),
        fingerprint=fingerprint,
        evaluation=evaluation,
        reliability=choice.reliability if choice else None,
        licence=licence,
        intended_use=intended_use,
        notes=choice.notes if choice else ("The members were named by hand.",),
        version=__version__,
        torch_version=version_of("torch"),
    )
    return Contents(package, files)


def write_package(path: Path, contents: Contents) -> None:
    """Write a model file so that it is there whole or not at all; equal contents give equal bytes.

    Raises:
        ResourceError: The disk is full or the folder cannot be written; an old file stays.
        UsageError: The name does not end in .zip.
    """
    if path.suffix.lower() != ".zip":
        fix = f"Call it {path.name}.zip."
        raise UsageError("is no name of a model file, which ends in .zip", file=path, fix=fix, code="no_zip")
    archives.pack(path, {MANIFEST: contents.package.to_json().encode(), **contents.files})


def _trained(work: Workspace, plan: Plan) -> dict[str, list[ModelId]]:
    """Return candidate -> the folds that were trained."""
    found: dict[str, list[ModelId]] = {}
    for model in work.trained(plan.name):
        found.setdefault(model.candidate(), []).append(model)
    return found


def _member(
    work: Workspace, trained: Mapping[str, list[ModelId]], name: str, share: Share, files: dict[str, Path | bytes]
) -> PackagedMember:
    """Return one candidate, and note its files in `files`."""
    if name not in trained:
        there = ", ".join(trained) or "nothing yet"
        raise UsageError(f"no model {name!r} was trained", fix=f"There is: {there}.", code="no_member")
    networks = []
    records = []
    for model in trained[name]:
        folder = work.model(model)
        records.append(read_record(folder / "model.json", TrainedModel, missing="Train this fold first."))
        file = f"models/{model.configuration}/{model.variant}_s{model.seed}/fold_{model.fold}{SUFFIX}"
        networks.append(_network(folder, records[-1], file))
        files[file] = folder / "model.safetensors"
    configuration, mean = of_folds(records), sum(share) / len(share) if isinstance(share, tuple) else share
    return PackagedMember(
        name=name,
        weight=mean,
        class_weights=share if isinstance(share, tuple) else (),
        configuration=configuration,
        networks=tuple(networks),
    )


def _network(folder: Path, model: TrainedModel, file: str) -> PackagedNetwork:
    weights = checked_weights(folder, model)
    run = read_record(folder / "run.json", RunRecord, missing="Train this fold again.")
    return PackagedNetwork(
        key=model.model.key(),
        file=file,
        bytes=weights.stat().st_size,
        sha256=model.weights_sha256,
        precision=run.precision,
    )


def _fingerprint(work: Workspace) -> Fingerprint | None:
    return work.fingerprint() if work.fingerprint_file.exists() else None


def _evaluation(work: Workspace, plan: Plan, choice: EnsembleChoice | None) -> Evaluation | None:
    """Return the scores of the choice, unless they are of another one."""
    file = work.ensemble(plan.name) / "evaluation.json"
    if choice is None or not file.exists():
        return None
    evaluation = read_record(file, Evaluation)
    return evaluation if evaluation.inputs_digest == choice.digest() else None


def _anonymous(
    fingerprint: Fingerprint | None, evaluation: Evaluation | None
) -> tuple[Fingerprint | None, Evaluation | None]:
    """Return both with numbers in place of the cases' ids, the same for both: ids may name a patient."""
    ids = {facts.id for facts in fingerprint.cases} if fingerprint else set()
    ids |= {score.case for score in evaluation.scores} if evaluation else set()
    numbered = {id: f"case_{number:04d}" for number, id in enumerate(sorted(ids), start=1)}
    if fingerprint:
        cases = tuple(facts.model_copy(update={"id": numbered[facts.id]}) for facts in fingerprint.cases)
        fingerprint = fingerprint.model_copy(update={"cases": cases})
    if evaluation:
        scores = tuple(score.model_copy(update={"case": numbered[score.case]}) for score in evaluation.scores)
        evaluation = evaluation.model_copy(update={"scores": scores})
    return fingerprint, evaluation
