"""All of it in one command, and what it leaves for people."""

from __future__ import annotations

from pathlib import Path

from autoseg import upkeep
from autoseg.pipeline import Tell, quiet
from autoseg.pipeline.choosing import ensemble
from autoseg.pipeline.preparing import check, checked, current_plan, lineup, preprocess
from autoseg.pipeline.training import train_models
from autoseg.records.choice import EnsembleChoice
from autoseg.records.exploration import Exploration
from autoseg.records.requests import PlanRequest, SelectRequest, TrainRequest
from autoseg.stages import reporting
from autoseg.stages.training import runs
from autoseg.workspace import Workspace


def run(
    work: Workspace,
    request: PlanRequest,
    selection: SelectRequest | None = None,
    *,
    workers: int | None = None,
    skip_bad: bool = False,
    tell: Tell = quiet,
) -> EnsembleChoice:
    """Do all that is not done yet, and again what has changed: check, plan, preprocess, train, choose, report."""
    checked(work, workers, skip_bad=skip_bad, tell=tell)
    plan = current_plan(work, request, workers, tell)
    preprocess(work, [item.preparation for item in lineup(plan)], workers=workers, tell=tell)
    training_request = TrainRequest(plan=plan.name, minutes=request.minutes, device=request.device)
    wanted = runs.models(work.dataset(), plan, training_request)
    for model in wanted:
        upkeep.set_stale_aside(work, plan, model)
    train_models(work, plan, wanted, training_request, tell)
    choice = ensemble(work, plan.name, selection, tell=tell)
    report(work, plan.name, tell=tell)
    return choice


def steps_left(work: Workspace, request: PlanRequest) -> list[str]:
    """Return what `run` would do now, in words."""
    work.dataset()
    steps = [] if work.check_file.exists() else ["check every case"]
    if not work.plan_file(request.plan).exists():
        return [*steps, "fingerprint and plan", "preprocess", "train the line-up", "choose the ensemble", "report"]
    plan = work.plan(request.plan)
    trained = {model.key() for model in work.trained(plan.name)}
    wanted = runs.models(work.dataset(), plan, TrainRequest(plan=plan.name))
    steps += [f"train {model.key()}" for model in wanted if model.key() not in trained]
    return [*steps, "choose the ensemble", "report"]


def report(work: Workspace, plan_name: str = "default", *, tell: Tell = quiet) -> Path:
    """Write the report: one HTML file that opens anywhere."""
    plan = work.plan(plan_name)
    tell("write the report", 0.0, None)
    return reporting.write(work, plan, _exploration(work, None, tell))


def case_report(work: Workspace, plan_name: str, case: str) -> Path:
    """Write the page about one held-out case."""
    return reporting.write_case(work, work.plan(plan_name), case)


def explore(work: Workspace, *, workers: int | None = None, tell: Tell = quiet) -> Path:
    """Write the page about the data alone: nothing needs to be planned or trained, and bad cases do not stop it."""
    if not work.check_file.exists() or upkeep.changed_since(work.dataset(), work.check_file):
        check(work, workers=workers, tell=tell)
    found = _exploration(work, workers, tell)
    tell("write the page", 0.9, None)
    return reporting.write_data(work, found)


def _exploration(work: Workspace, workers: int | None, tell: Tell) -> Exploration:
    def said(done: int, count: int) -> None:
        tell(f"look at {count} cases", done / count, None)

    return upkeep.exploration(work, workers, tell=said)
