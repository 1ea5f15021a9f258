"""From new scans to label maps, and from label maps to scores."""

from __future__ import annotations

from pathlib import Path

from autoseg.compute import devices
from autoseg.images import files
from autoseg.images.cases import read_image
from autoseg.pipeline import Tell, quiet
from autoseg.records.dataset import Channel
from autoseg.records.errors import CasesFailed, UserError
from autoseg.records.labels import Labels
from autoseg.records.plan import Plan
from autoseg.records.requests import PredictRequest
from autoseg.records.results import Evaluation, RunRecord
from autoseg.stages import evaluating, predicting
from autoseg.stages.importing.scans import find_scans
from autoseg.stages.predicting import packages
from autoseg.workspace import Workspace, check_writable, read_record


def predict(
    model: Workspace | Path, source: Path, output: Path, request: PredictRequest, *, tell: Tell = quiet
) -> dict[str, Path]:
    """Predict every scan in a folder (or one file) and return case -> label map file.

    Args:
        model: The workspace of a data set, or a model file.
        source: A scan, or a folder of scans.
        output: Folder for the label maps.
        request: Which members, and how.
        tell: Told how far the work is.

    Raises:
        CasesFailed: Some scans could not be predicted; the others were written.
    """
    channels = _channels(model, request.plan)
    scans = find_scans(source, channels)
    if isinstance(model, Workspace) and not request.members:
        model.choice(request.plan)  # known to be there before a folder is made
    check_writable(output)
    predictor = load(model, request)
    written: dict[str, Path] = {}
    failures: dict[str, UserError] = {}
    for number, scan in enumerate(scans):
        tell(f"predict {scan.id}", number / len(scans), None)
        file = output / f"{scan.id}.nii.gz"
        if request.resume and _readable(file):
            written[scan.id] = file
            continue
        try:
            image = read_image(scan.images, channels, predictor.plan.corrections, case=scan.id)
            prediction = predictor.predict_image(image, case=scan.id)
        except UserError as error:
            failures[scan.id] = error.in_case(scan.id)
            continue
        values = predicting.written_values(prediction.labels.array, predictor.labels)
        files.write_volume(file, values, prediction.labels.grid, description=predictor.description)
        written[scan.id] = file
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(scans)} scans could not be predicted", failures)
    return written


def load(model: Workspace | Path, request: PredictRequest) -> predicting.Predictor:
    """Return the models of a workspace or of a model file, ready to predict.

    Raises:
        UsageError: Nothing was trained or chosen yet, or a member is unknown.
        DataError: Weights are damaged, or not those that were trained.
    """
    if isinstance(model, Path):
        return predicting.Predictor.load(
            model,
            device=request.device,
            mirror=request.mirror,
            step_fraction=request.step_fraction,
            members=request.members,
        )
    plan = model.plan(request.plan)
    choice = None if request.members else model.choice(plan.name)
    shares = dict(zip(choice.members, choice.weights, strict=True)) if choice else dict.fromkeys(request.members, 1.0)
    device = str(devices.torch_device(devices.find(request.device)))
    members, stages = predicting.load_ensemble(model, plan, shares, device=device)
    return predicting.Predictor(
        plan=plan,
        members=tuple(members),
        first_stages=stages,
        postprocessing=choice.postprocessing if choice else (),
        options=options_for(_folder_of(model, members[0]), request),
        digest=members[0].digest,
    )


def scans(model: Workspace | Path, source: Path, plan_name: str) -> list[str]:
    """Return the ids of the scans that a prediction would find."""
    return [scan.id for scan in find_scans(source, _channels(model, plan_name))]


def _channels(model: Workspace | Path, plan_name: str) -> tuple[Channel, ...]:
    if isinstance(model, Workspace):
        return model.plan(plan_name).channels
    return packages.opened(model).package.plan.channels


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
    return predicting.options_for(
        trained, device=request.device, mirror=request.mirror, step_fraction=request.step_fraction
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


def origin(plan: Plan) -> str:
    """Return what an output of no one model says of where it came from."""
    return predicting.describe(plan)
