"""From a folder of cases to a plan and preprocessed cases."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from autoseg import __version__, upkeep
from autoseg.compute.companion import NOBODY, Companion, companion
from autoseg.pipeline import Tell, measuring, quiet, timing
from autoseg.records.check import CheckReport
from autoseg.records.configuration import Configuration, Preparation
from autoseg.records.dataset import Dataset
from autoseg.records.errors import CasesFailed, DataError, UserError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.forecast import Forecast
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Plan
from autoseg.records.preset import Preset
from autoseg.records.requests import PlanRequest
from autoseg.stages import checking, importing, planning, preprocessing
from autoseg.stages.checking import leaving_out
from autoseg.stages.planning.remembered import remembering
from autoseg.stages.planning.stored import StoredCost
from autoseg.storage import read_record, write_record
from autoseg.workspace import Workspace

log = logging.getLogger("autoseg")


def import_dataset(
    source: Path, work: Workspace, options: importing.ImportOptions, *, dry_run: bool = False
) -> Dataset:
    """Recognise a folder's layout and remember where everything lies."""
    dataset = importing.import_dataset(source, work.name, options=options)
    if not dry_run:
        write_record(work.dataset_file, dataset)
        importing.write_splits(work.splits_file, dataset.folds)
    return dataset


def check(work: Workspace, *, workers: int | None = None, tell: Tell = quiet) -> CheckReport:
    """Look at every case and list every problem at once."""

    def said(done: int, count: int) -> None:
        tell(f"check {count} cases", done / count, None)

    report = checking.check(work.dataset(), workers=workers, kept=work.registrations, tell=said)
    write_record(work.check_file, report)
    return report


def checked(work: Workspace, workers: int | None, *, skip_bad: bool = False, tell: Tell = quiet) -> None:
    """Check the data unless these very data were checked.

    With `skip_bad`, cases with errors are left out of the data set from now on, and its notes say so.

    Raises:
        DataError: There are errors; all of them are in `check.json`.
    """
    dataset = work.dataset()
    report = None
    if work.check_file.exists() and not upkeep.changed_since(dataset, work.check_file):
        known = read_record(work.check_file, CheckReport)
        report = known if known.dataset_digest == dataset.digest() else None
    report = report or check(work, workers=workers, tell=tell)
    if skip_bad and report.errors():
        dataset, report = leaving_out.without_bad(dataset, report)
        for note in dataset.notes[-1:]:
            log.warning("%s", note)
        write_record(work.dataset_file, dataset)
        write_record(work.check_file, report)
    errors = report.errors()
    if errors:
        first = errors[0]
        raise DataError(
            f"{len(errors)} problems keep {work.name} from being used; the first: {first.what}",
            case=first.case,
            file=first.file,
            fix=f"{first.fix} `autoseg check -d {work.name}` lists all of them; --skip-bad leaves such cases out.",
            code="check_failed",
        )


def make_plan(work: Workspace, request: PlanRequest, *, workers: int | None = None, write: bool = True) -> Plan:
    """Measure the data set and plan; keeps the fingerprint (unless `write` is off), but not the plan."""
    with companion(measuring.load_networks) as beside:
        fingerprint = upkeep.fingerprint(work, work.dataset(), workers, write=write)
        return _plan(work, fingerprint, request, beside, write=write)


def _plan(
    work: Workspace, fingerprint: Fingerprint, request: PlanRequest, beside: Companion, *, write: bool = True
) -> Plan:
    dataset = work.dataset()
    device = _device(request, beside, calibrate=request.minutes is not None)
    known = timing.calibration(work, request, device)
    device = timing.planned_for(device, known, request)
    count_work = partial(beside.call, measuring.measure_work)
    pace = timing.pace(work, known, call=count_work, write=write) if known else None
    cost = remembering(partial(_dry_run, beside), work.dry_runs, write=write)
    situation = planning.Situation(fingerprint, device, request.minutes, _folds(dataset), cost, pace)
    presets, choice = timing.presets(request, situation)
    plan = planning.make_plan(
        fingerprint,
        presets,
        device,
        cost=cost,
        pace=pace,
        by_hand=request.settings,
        name=request.plan,
        corrections=dataset.corrections,
        minutes=request.minutes,
        folds=_folds(dataset),
        version=__version__,
    )
    inputs = upkeep.plan_inputs(fingerprint, request)
    return plan.model_copy(update={"inputs_digest": inputs, "decisions": (*choice, *plan.decisions)})


def plan_and_preprocess(
    work: Workspace, request: PlanRequest, *, workers: int | None = None, tell: Tell = quiet
) -> Plan:
    """Fingerprint, plan, and preprocess every configuration of the line-up.

    What every plan preprocesses is begun while the networks are measured.
    """
    tell("fingerprint and plan", 0.0, None)
    dataset = work.dataset()
    with companion(measuring.load_networks) as beside, ThreadPoolExecutor(1) as thread:
        fingerprint = upkeep.fingerprint(work, dataset, workers)
        planned = thread.submit(_plan, work, fingerprint, request, beside)

        def watch(what: str, done: float, seconds_left: float | None) -> None:
            tell(what, done, seconds_left)
            if planned.done():
                planned.result()  # where there is no plan, nobody waits for the rest of the cases

        preprocess(work, planning.preparations(fingerprint, [_first_preset(request)]), workers=workers, tell=watch)
        plan = planned.result()
        write_record(work.plan_file(plan.name), plan)
        write_record(work.forecast_file(plan.name), forecast(work, plan, request, beside))
    preprocess(work, [item.preparation for item in lineup(plan)], workers=workers, tell=tell)
    return plan


def current_plan(work: Workspace, request: PlanRequest, workers: int | None, tell: Tell) -> Plan:
    """Return the plan that is kept, made again where what it follows from has changed."""
    fingerprint = upkeep.fingerprint(work, work.dataset(), workers)
    if work.plan_file(request.plan).exists():
        known = work.plan(request.plan)
        if known.inputs_digest == upkeep.plan_inputs(fingerprint, request):
            return known
        log.warning("The data, a preset or the budget has changed: planning again.")
    tell("fingerprint and plan", 0.0, None)
    plan = make_plan(work, request, workers=workers)
    write_record(work.plan_file(plan.name), plan)
    write_record(work.forecast_file(plan.name), forecast(work, plan, request))
    return plan


def forecast(
    work: Workspace, plan: Plan, request: PlanRequest, beside: Companion = NOBODY, *, write: bool = True
) -> Forecast:
    """Return how long the plan's line-up takes on this device, its speed measured where the plan did not ask for it."""
    speed = plan.device.flops_per_second
    known = timing.calibration(work, request, plan.device)
    steps = timing.lineup_seconds(work, plan, known, call=partial(beside.call, measuring.measure_work), write=write)
    if known is not None and speed <= 0:
        speed = timing.dense_speed(known)
    if speed <= 0:
        speed = _device(request, beside, calibrate=True).flops_per_second
    dataset = work.dataset()
    held_out = sum(len(fold.held_out) for fold in dataset.folds)
    return planning.forecast(
        plan, speed, folds=_folds(dataset), cases=held_out, minutes=request.minutes, step_seconds=steps
    )


def preprocess(
    work: Workspace, preparations: Sequence[Preparation], *, workers: int | None = None, tell: Tell = quiet
) -> None:
    """Preprocess what configurations need; cases that are done and whole and up to date are left as they are.

    Raises:
        CasesFailed: Some cases could not be preprocessed; the others are done.
    """
    dataset = work.dataset()
    by_key = {preparation.data_key: preparation for preparation in preparations}
    failures: dict[str, UserError] = {}
    for number, (key, preparation) in enumerate(by_key.items()):

        def on_case(done: int, count: int, number: int = number) -> None:
            tell(f"preprocess {count} cases", (number + done / count) / len(by_key), None)

        failures |= preprocessing.preprocess(
            dataset, preparation, work.preprocessed(key), workers=workers, on_case=on_case, kept=work.registrations
        )
    if failures:
        raise CasesFailed(f"{len(failures)} of {len(dataset.cases)} cases could not be preprocessed", failures)


def lineup(plan: Plan) -> list[Configuration]:
    """Return the configurations that are worth training, in order."""
    return [plan.configuration(entry.configuration) for entry in plan.lineup]


def _folds(dataset: Dataset) -> int:
    return sum(fold.name != "all" for fold in dataset.folds) or 1


def _first_preset(request: PlanRequest) -> Preset:
    """Return a preset that every plan of this request has: the first one is never left out for want of time."""
    name = "unet" if request.presets[0] == planning.AUTO else request.presets[0]
    return planning.change_preset(planning.load_preset(name), request.settings)


def _device(request: PlanRequest, beside: Companion, *, calibrate: bool) -> DeviceProfile:
    return beside.call(measuring.find_device, request.device, request.memory_gb, calibrate=calibrate)


def _dry_run(beside: Companion, *step: Any, **how: str) -> StoredCost:
    return StoredCost(*beside.call(measuring.measure_step, *step, **how))
