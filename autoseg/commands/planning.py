"""Commands about plans: plan_and_preprocess, explain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from autoseg import console, views
from autoseg.commands.options import (
    CalibrationFile,
    Device,
    DryRun,
    Hours,
    Json,
    Minutes,
    Name,
    PlanName,
    Presets,
    Root,
    SetPlanning,
    SkipBad,
    Workers,
    budget,
    plan_request,
    workspace,
)

app = typer.Typer()


@app.command("plan_and_preprocess")
def plan_and_preprocess(
    dataset: Name,
    preset: Presets = "unet",
    plan: PlanName = "default",
    memory_gb: Annotated[float | None, typer.Option(min=0.5, help="Plan for a device with this memory.")] = None,
    set_: SetPlanning = None,
    calibration: CalibrationFile = None,
    minutes: Minutes = None,
    hours: Hours = None,
    device: Device = None,
    root: Root = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Measure the data set, plan, and preprocess every case."""
    from autoseg.pipeline import preparing

    request = plan_request(
        plan, preset, memory_gb, budget(minutes, hours), device, settings=set_, calibration=calibration
    )
    work = workspace(dataset, root)
    with console.progress(silent=json) as tell:
        if dry_run:
            made = preparing.make_plan(work, request, workers=workers, write=False)
        else:
            if skip_bad:
                preparing.checked(work, workers, skip_bad=True, tell=tell)
            made = preparing.plan_and_preprocess(work, request, workers=workers, tell=tell)
    if json:
        console.as_json(made.model_dump(mode="json"))
        return
    views.plan(made)
    views.forecast(preparing.forecast(work, made, request, write=False) if dry_run else work.forecast(made.name))
    console.line("nothing was written" if dry_run else f"next: autoseg train -d {dataset}")


@app.command()
def calibrate(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write. [default: the workspace's calibration.json]")
    ] = None,
    device: Device = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Measure in about a minute how fast this device does each kind of operation: for plans that know their time."""
    from autoseg.pipeline import timing
    from autoseg.workspace import workspace_root

    file = output or workspace_root(root) / "calibration.json"
    with console.progress(silent=json) as tell:
        found = timing.calibrate(file, device, tell=tell)
    if json:
        console.as_json(found.model_dump(mode="json"))
        return
    views.calibration(found)
    console.line(f"written: {file}")


@app.command()
def explain(
    dataset: Name,
    plan: PlanName = "default",
    compare: Annotated[
        str | None, typer.Option(help="Only what another plan (name or file) decides otherwise.")
    ] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Say why each number of a plan is what it is."""
    work = workspace(dataset, root)
    made = work.plan(plan)
    if compare is not None:
        views.differences(made, _other_plan(work, compare), json=json)
        return
    if json:
        console.as_json([item.model_dump() for item in made.decisions])
        return
    rows = [(item.what, item.value, item.because) for item in made.decisions]
    console.table(f"{dataset}, plan {plan}", ("what", "value", "because"), rows)


def _other_plan(work: Any, name: str) -> Any:
    from autoseg.records.plan import Plan
    from autoseg.storage import read_record

    if os.sep in name or name.endswith(".json"):
        return read_record(Path(name).expanduser(), Plan, missing="Check the path.")
    return work.plan(name)
