"""From new scans to label maps."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autoseg.compute import devices
from autoseg.compute.workers import resident_bytes
from autoseg.images.cases import read_grid, read_image
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.overlapping import overlapped
from autoseg.records.choice import EnsembleChoice, Share
from autoseg.records.dataset import Case, Channel
from autoseg.records.errors import CasesFailed, DataError, UsageError, UserError
from autoseg.records.model import RunRecord
from autoseg.records.plan import Plan
from autoseg.records.quality import PredictedQuality, Reliability
from autoseg.records.requests import ExpectedCost, PredictRequest
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages import predicting
from autoseg.stages.importing.scans import find_scans
from autoseg.stages.predicting import outputs, packages
from autoseg.storage import check_writable, read_record
from autoseg.workspace import Workspace

log = logging.getLogger(__name__)


def predict(
    model: Workspace | Path, source: Path, output: Path, request: PredictRequest, *, tell: Tell = quiet
) -> dict[str, Path]:
    """Predict every scan in a folder (or one file) and return case -> its label map file, or the folder of its files.

    Args:
        model: The workspace of a data set, or a model file.
        source: A scan, or a folder of scans.
        output: Folder for the label maps.
        request: Which members, and how.
        tell: Told how far the work is.

    Raises:
        CasesFailed: Some scans could not be predicted; the others were written.
    """
    outputs.check_format(request.format)
    if request.fast and request.uncertainty:
        fix = "Leave one of them out."
        raise UsageError("the doubt of a whole scan is not known where only a part is predicted", fix=fix)
    scans = find_scans(source, _channels(model, request.plan))
    _choice(model, request)  # known to be there before a folder is made
    check_writable(output)
    registrations = model.registrations / "scans" if isinstance(model, Workspace) else None
    formats = {scan.id: outputs.choose(request.format, scan) for scan in scans}
    predictor = load(model, request)
    if request.uncertainty and not predictor.knows_its_signs:
        log.warning("What the model learnt of its doubt is of another version: no Dice is predicted. Train again.")
    job = _Job(predictor, request, output, formats, registrations)
    written = _kept(job, scans) if request.resume else {}
    failures = _predict(job, [scan for scan in scans if scan.id not in written], written, len(scans), tell=tell)
    if request.label_file:
        outputs.write_label_file(output, job.predictor.labels)
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(scans)} scans could not be predicted", failures)
    return written


@dataclass(frozen=True)
class _Job:
    """What all scans of a call have in common.

    Attributes:
        formats: Scan -> what its label map is written as.
        registrations: Folder in which those of scans are kept, or None.
    """

    predictor: predicting.Predictor
    request: PredictRequest
    output: Path
    formats: Mapping[str, outputs.Format]
    registrations: Path | None


def _predict(
    job: _Job, scans: Sequence[Case], written: dict[str, Path], count: int, *, tell: Tell
) -> dict[str, UserError]:
    """Predict scans one after the other, note in `written` where each lies, and return those that failed."""
    expected = expected_costs(job.predictor, scans, uncertainty=job.request.uncertainty)
    ahead = _Ahead({cost.case: cost.seconds for cost in expected})
    if expected:
        log.info("%s", said(expected))
    failures: dict[str, UserError] = {}

    def compute(scan: Case, image: Image) -> Prediction:
        tell(f"predict {scan.id}", (len(written) + len(failures)) / count, ahead.left())
        prediction = _compute(job, scan, image)
        ahead.done(scan.id, prediction.seconds)
        return prediction

    started = time.perf_counter()
    for scan, outcome in overlapped(scans, partial(_read, job), compute, partial(_write, job)):
        if isinstance(outcome, UserError):
            failures[scan.id] = outcome.in_case(scan.id)
        else:
            written[scan.id] = outcome
    if scans:
        log.info("%s", said_after(len(scans), time.perf_counter() - started))
    return failures


def _read(job: _Job, scan: Case) -> Image:
    job.formats[scan.id].require(scan, job.request.new_uids)
    plan = job.predictor.plan
    return read_image(scan.images, plan.channels, plan.corrections, case=scan.id, kept=job.registrations)


def _compute(job: _Job, scan: Case, image: Image) -> Prediction:
    asked = {"probabilities": job.request.probabilities, "uncertainty": job.request.uncertainty}
    prediction = job.predictor.predict_image(image, case=scan.id, scratch=job.output, **asked)
    if prediction.unlikeness is not None and prediction.unlikeness.flagged:
        log.warning("%s is %s: look at its labels", scan.id, prediction.unlikeness.line())
    return prediction


def _write(job: _Job, scan: Case, prediction: Prediction) -> Path | UserError:
    predictor, output = job.predictor, job.output
    try:
        # The label map comes last: where it lies, `--resume` takes the case for done.
        outputs.write_doubt(output / "uncertainty", prediction, description=origin(predictor.plan))
        outputs.write_probabilities(
            output / "probabilities", prediction, predictor.labels, description=predictor.description
        )
        segmentation = _segmentation(scan, prediction, predictor, job.request)
        return _place(job.formats[scan.id].write(segmentation, output / scan.id))
    except DataError as error:  # the format cannot hold it; a full disk ends the run
        return error


@dataclass
class _Ahead:
    """The time that is left: what is expected of the cases ahead, scaled by how it turned out so far."""

    expected: dict[str, float]
    past: float = 0.0
    taken: float = 0.0

    def done(self, case: str, seconds: float) -> None:
        self.past += self.expected.pop(case, 0.0)
        self.taken += seconds

    def left(self) -> float | None:
        scale = self.taken / self.past if self.past > 0 else 1.0
        return scale * sum(self.expected.values()) if self.expected else None


def expected_costs(
    predictor: predicting.Predictor, scans: Sequence[Case], *, uncertainty: bool = False
) -> list[ExpectedCost]:
    """Return what each scan will take, from its header; scans whose header cannot be read are left out."""
    program = resident_bytes() if predictor.options.device == "cpu" else 0
    grids = {}
    for scan in scans:
        try:
            grids[scan.id] = read_grid(scan.images, predictor.plan.channels)
        except UserError as error:  # reading it says so again, where failures are gathered
            log.debug("%s: no cost: %s", scan.id, error)
    if not grids:
        return []
    costs = {case: predictor.expected_cost(grid, uncertainty=uncertainty) for case, grid in grids.items()}
    pace = predictor.measure_pace(next(iter(grids.values())), uncertainty=uncertainty)
    ahead = [*(cost.scan_bytes for cost in costs.values()), 0][1:]
    return [
        ExpectedCost(case, cost.seconds(pace), (program + cost.memory_bytes + after) / 2**30, cost.tiles)
        for (case, cost), after in zip(costs.items(), ahead, strict=True)
    ]


def said(costs: Sequence[ExpectedCost]) -> str:
    """Return what scans will take, in a line."""
    together, most = sum(cost.seconds for cost in costs), max(cost.memory_gb for cost in costs)
    one = "1 scan" if len(costs) == 1 else f"{len(costs)} scans"
    each = "" if len(costs) == 1 else f", {_seconds(together / len(costs), '.1f')} a scan"
    memory = f"{most:.1f} GB of memory at most" if most >= 0.1 else "less than 0.1 GB of memory"
    return f"{one}: {_seconds(together, '.0f')} of computing{each}; {memory}"


def said_after(scans: int, seconds: float) -> str:
    """Return what scans took, reading and writing included, in a line."""
    each = seconds / scans
    if each < 0.01:
        return "less than 0.01 seconds a scan"
    return f"{each:.0f} seconds a scan" if each >= 100 else f"{each:.2g} seconds a scan"


def _seconds(count: float, digits: str) -> str:
    if count < 1:
        return "under a second"
    number = f"{count:{digits}}"
    return f"about {number} second{'' if number == '1' else 's'}"


def _choice(model: Workspace | Path, request: PredictRequest) -> EnsembleChoice | None:
    return None if isinstance(model, Path) or request.members else model.choice(request.plan)


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
            memory_gb=request.memory_gb,
            members=request.members,
            precision=request.precision,
            fast=request.fast,
        )
    plan = model.plan(request.plan)
    choice = _choice(model, request)
    shares: Mapping[str, Share] = choice.shares if choice else dict.fromkeys(request.members, 1.0)
    device = str(devices.torch_device(devices.find(request.device)))
    members, stages = predicting.load_ensemble(model, plan, shares, device=device)
    return predicting.Predictor(
        plan=plan,
        members=tuple(members),
        first_stages=stages,
        postprocessing=choice.postprocessing if choice else (),
        reliability=choice.reliability if choice else Reliability(),
        options=options_for(_folder_of(model, members[0]), request),
        digest=members[0].digest,
    )


def preview(model: Workspace | Path, source: Path, request: PredictRequest) -> tuple[list[str], list[ExpectedCost]]:
    """Return the ids of the scans that a prediction would find, and what those with a readable header will take."""
    found = find_scans(source, _channels(model, request.plan))
    costs = expected_costs(load(model, request), found, uncertainty=request.uncertainty)
    return [scan.id for scan in found], costs


def _channels(model: Workspace | Path, plan_name: str) -> tuple[Channel, ...]:
    if isinstance(model, Workspace):
        return model.plan(plan_name).channels
    return packages.opened(model).package.plan.channels


def options_for(folder: Path, request: PredictRequest) -> predicting.Options:
    """Return how to predict: as the model was trained, unless this device is slow or unable in that precision."""
    trained = read_record(folder / "run.json", RunRecord).precision
    return predicting.options_for(
        trained,
        device=request.device,
        mirror=request.mirror,
        step_fraction=request.step_fraction,
        memory_gb=request.memory_gb,
        precision=request.precision,
        fast=request.fast,
    )


def referred(output: Path, cases: Sequence[str], limit: float) -> dict[str, PredictedQuality]:
    """Return the cases that a person must look at, with the scores that say so.

    Of the others the true Dice of a structure lies below it in at most one of ten; see `PredictedQuality.refers`.

    Raises:
        DataError: The quality of a case was not predicted.
    """
    found = {}
    for case in cases:
        file = output / "uncertainty" / f"{case}_quality.json"
        quality = read_record(file, PredictedQuality, missing="Predict it again without --resume.")
        if quality.refers(limit):
            found[case] = quality.model_copy(update={"scores": quality.below(limit)})
    return found


def _folder_of(work: Workspace, member: predicting.Member) -> Path:
    return next(work.model(model) for model in work.trained() if model.key() == member.keys[0])


def _segmentation(
    scan: Case, prediction: Prediction, predictor: predicting.Predictor, request: PredictRequest
) -> outputs.Segmentation:
    values = predicting.written_values(prediction.labels.array, predictor.labels)
    volume = LabelMap(values, prediction.labels.grid)
    return outputs.Segmentation(
        scan,
        volume,
        predictor.labels,
        predictor.description,
        prediction.regions,
        new_uids=request.new_uids,
        hide_patient_id=request.hide_patient_id,
    )


def _kept(job: _Job, scans: Sequence[Case]) -> dict[str, Path]:
    """Return what an earlier run wrote; nothing of a scan that cannot be read: predicting it says why."""
    written = {}
    for scan in scans:
        with contextlib.suppress(UserError):
            if kept := job.formats[scan.id].kept(scan, job.predictor.labels, job.output / scan.id):
                written[scan.id] = _place(kept)
    return written


def _place(written: Sequence[Path]) -> Path:
    """Return the one file that was written, or the folder of several."""
    return written[0] if len(written) == 1 else written[0].parent


def origin(plan: Plan) -> str:
    """Return what an output of no one model says of where it came from."""
    return predicting.describe(plan)
