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
from autoseg.records.quality import PredictedQuality, PredictedScore
from autoseg.records.requests import PredictRequest
from autoseg.records.results import EnsembleChoice, Evaluation, RunRecord
from autoseg.records.volumes import Prediction
from autoseg.stages import ensembling, evaluating, predicting
from autoseg.stages.importing.scans import find_scans
from autoseg.workspace import Workspace, check_writable, read_record, write_record


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
                temperature=_temperature(choice) if request.uncertainty else None,
            )
        except UserError as error:
            failures[scan.id] = error.in_case(scan.id)
            continue
        # The label map comes last: where it lies, `--resume` takes the case for done.
        _write_doubt(output / "uncertainty", prediction, choice, plan)
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
    )


def _temperature(choice: EnsembleChoice | None) -> float:
    return choice.calibration.temperature if choice is not None and choice.calibration is not None else 1.0


def _write_doubt(folder: Path, prediction: Prediction, choice: EnsembleChoice | None, plan: Plan) -> None:
    if prediction.doubt is None:
        return
    names = [name for name, _ in plan.labels.targets]
    models = choice.quality if choice is not None else ()
    scores = ensembling.predict_quality(models, names, prediction.doubt.features)
    write_record(
        folder / f"{prediction.case}_quality.json", PredictedQuality(case=prediction.case, scores=tuple(scores))
    )
    maps = {"entropy": prediction.doubt.entropy, "disagreement": prediction.doubt.disagreement}
    for name, array in maps.items():
        file = folder / f"{prediction.case}_{name}.nii.gz"
        files.write_volume(file, array, prediction.labels.grid, description=origin(plan))


def referred(output: Path, cases: Sequence[str], limit: float) -> dict[str, list[PredictedScore]]:
    """Return the cases that a person must look at: those where a structure's interval reaches below `limit`.

    Of the others the true Dice of a structure lies below it in at most one of ten.

    Raises:
        DataError: The quality of a case was not predicted.
    """
    found = {}
    for case in cases:
        file = output / "uncertainty" / f"{case}_quality.json"
        quality = read_record(file, PredictedQuality, missing="Predict it again without --resume.")
        low = [score for score in quality.scores if score.low < limit]
        if low or not quality.scores:  # what nobody can vouch for is looked at
            found[case] = low
    return found


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
