"""From new scans to label maps, and from label maps to scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from autoseg import __version__
from autoseg.compute import devices
from autoseg.images import files
from autoseg.images.cases import read_image
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.overlapping import overlapped
from autoseg.records.dataset import Case
from autoseg.records.errors import CasesFailed, UserError
from autoseg.records.labels import Labels
from autoseg.records.plan import Plan
from autoseg.records.requests import PredictRequest
from autoseg.records.results import Evaluation, RunRecord
from autoseg.records.volumes import Image, Prediction
from autoseg.stages import evaluating, predicting
from autoseg.stages.importing.scans import find_scans
from autoseg.workspace import Workspace, check_writable, read_record

log = logging.getLogger(__name__)


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
    written = {scan.id: _target(output, scan) for scan in scans if request.resume and _readable(_target(output, scan))}
    failures: dict[str, UserError] = {}
    wanted = [scan for scan in scans if scan.id not in written]
    started = time.perf_counter()

    def compute(scan: Case, image: Image) -> Prediction:
        done = len(written) + len(failures)
        tell(f"predict {scan.id}", done / len(scans), None)
        return predicting.predict_scan(
            image,
            members,
            case=scan.id,
            labels=plan.labels,
            postprocessing=choice.postprocessing if choice else (),
            first_stages=stages,
            options=options,
        )

    def read(scan: Case) -> Image:
        return read_image(scan.images, plan.channels, plan.corrections, case=scan.id)

    def write(scan: Case, prediction: Prediction) -> Path:
        values = predicting.written_values(prediction.labels.array, plan.labels)
        files.write_volume(_target(output, scan), values, prediction.labels.grid, description=origin(plan, members))
        return _target(output, scan)

    for scan, outcome in overlapped(wanted, read, compute, write):
        if isinstance(outcome, UserError):
            failures[scan.id] = outcome.in_case(scan.id)
        else:
            written[scan.id] = outcome
    if wanted:
        log.info("%.1f seconds a scan", (time.perf_counter() - started) / len(wanted))
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(scans)} scans could not be predicted", failures)
    return written


def _target(output: Path, scan: Case) -> Path:
    return output / f"{scan.id}.nii.gz"


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
