"""From new scans to label maps, and from label maps to scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg import __version__
from autoseg.compute import devices
from autoseg.images import files
from autoseg.images.cases import read_image
from autoseg.pipeline import Tell, quiet
from autoseg.records.errors import CasesFailed, UserError
from autoseg.records.labels import Labels
from autoseg.records.plan import Plan
from autoseg.records.requests import PredictRequest
from autoseg.records.results import Evaluation, RunRecord
from autoseg.stages import evaluating, predicting
from autoseg.stages.importing.scans import find_scans
from autoseg.workspace import Workspace, check_writable, read_record


def predict(
    work: Workspace, source: Path, output: Path, request: PredictRequest, *, tell: Tell = quiet
) -> dict[str, Path]:
    """Predict every scan in a folder (or one file) and return case -> label map file.

    Raises:
        CasesFailed: Some scans could not be predicted; the others were written.
    """
    plan = work.plan(request.plan)
    scans = find_scans(source, plan.channels)
    choice = None if request.members else work.choice(plan.name)
    check_writable(output)
    shares = dict(zip(choice.members, choice.weights, strict=True)) if choice else dict.fromkeys(request.members, 1.0)
    device = str(devices.torch_device(devices.find(request.device)))
    members, stages = predicting.load_ensemble(work, plan, shares, device=device)
    options = options_for(_folder_of(work, members[0]), request)
    written: dict[str, Path] = {}
    failures: dict[str, UserError] = {}
    for number, scan in enumerate(scans):
        tell(f"predict {scan.id}", number / len(scans), None)
        file = output / f"{scan.id}.nii.gz"
        if request.resume and _readable(file):
            written[scan.id] = file
            continue
        try:
            prediction = predicting.predict_scan(
                read_image(scan.images, plan.channels, plan.corrections, case=scan.id),
                members,
                case=scan.id,
                labels=plan.labels,
                postprocessing=choice.postprocessing if choice else (),
                first_stages=stages,
                options=options,
            )
        except UserError as error:
            failures[scan.id] = error.in_case(scan.id)
            continue
        values = predicting.written_values(prediction.labels.array, plan.labels)
        files.write_volume(file, values, prediction.labels.grid, description=origin(plan, members))
        written[scan.id] = file
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(scans)} scans could not be predicted", failures)
    return written


def scans(work: Workspace, source: Path, plan_name: str) -> list[str]:
    """Return the ids of the scans that a prediction would find."""
    return [scan.id for scan in find_scans(source, work.plan(plan_name).channels)]


def evaluate(
    predictions: Path, truths: Path, labels: Labels | None, output: Path | None, *, lesions: bool = False
) -> tuple[Evaluation, list[evaluating.StructureSummary]]:
    """Score a folder of label maps against another, and keep every score as CSV where `output` says so.

    `lesions` counts the connected pieces of each structure as well.
    """
    evaluation = evaluating.evaluate_folder(predictions, truths, labels, lesions=lesions)
    if output is not None:
        evaluating.write_scores(output, evaluation)
    return evaluation, evaluating.summarise(evaluation)


def options_for(folder: Path, request: PredictRequest) -> predicting.Options:
    """Return how to predict: as the model was trained, unless this device is slow or unable in that precision."""
    trained = read_record(folder / "run.json", RunRecord).precision
    profile = devices.find(request.device)
    devices.set_threads(profile.threads)
    able = {"float32": True, "bfloat16": profile.fast_bfloat16, "float16": profile.kind == "cuda"}
    return predicting.Options(
        device=str(devices.torch_device(profile)),
        precision=trained if able[trained] else "float32",
        mirror=request.mirror,
        step_fraction=request.step_fraction,
        memory_gb=request.memory_gb,
    )


def _folder_of(work: Workspace, member: predicting.Member) -> Path:
    return next(work.model(model) for model in work.trained() if model.key() == member.keys[0])


def _readable(file: Path) -> bool:
    """Whether a prediction of an earlier run is there and whole."""
    try:
        files.read_volume(file)
    except UserError:
        return False
    return True


def origin(plan: Plan, members: Sequence[predicting.Member] = ()) -> str:
    """Return what an output says of where it came from."""
    model = f" model {members[0].digest[:16]}" if members else ""
    return f"autoseg {__version__} plan {plan.digest()}{model}"
