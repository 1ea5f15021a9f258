"""Commands about models: train, ensemble, compare, froc, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, score_views, views, words
from autoseg.commands.options import (
    CalibrationFile,
    Device,
    DryRun,
    Hours,
    Json,
    Metric,
    Minutes,
    Name,
    PlanName,
    Presets,
    Root,
    SecondsPerCase,
    SetPlanning,
    SkipBad,
    Workers,
    budget,
    plan_request,
    workspace,
)

app = typer.Typer()


@app.command()
def train(
    dataset: Name,
    folds: Annotated[str, typer.Option("-f", "--folds", help="0..4, 0,2 or all. [default: every fold]")] = "",
    configuration: Annotated[list[str] | None, typer.Option("-c", help="Only this one (repeatable).")] = None,
    plan: PlanName = "default",
    variant: Annotated[str, typer.Option(help="Name of a set of --set changes.")] = "base",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a recipe key: key=value (repeatable).")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Start from a model (its folder or name), a .safetensors file or nnU-Net's .pth.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed trains another model beside.")] = 0,
    minutes: Minutes = None,
    hours: Hours = None,
    device: Device = None,
    gpus: Annotated[int, typer.Option(min=0, help="Train each model on this many GPUs at once.")] = 0,
    ranks: Annotated[
        int, typer.Option(min=1, help="Train each model in this many processes on one CPU of many cores.")
    ] = 1,
    tensorboard: Annotated[bool, typer.Option(help="Write each epoch for TensorBoard as well.")] = False,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the line-up, predict the held-out cases, and score them. Run it again to resume."""
    from autoseg.pipeline import training
    from autoseg.records.requests import TrainRequest
    from autoseg.stages.training import runs

    device, count = words.devices(device, gpus, ranks)
    request = TrainRequest(
        plan=plan,
        folds=words.folds(folds),
        configurations=tuple(configuration or ()),
        variant=variant,
        seed=seed,
        settings=words.settings(set_ or []),
        minutes=budget(minutes, hours),
        device=device,
        pretrained=pretrained,
        ranks=count,
        tensorboard=tensorboard,
    )
    work = workspace(dataset, root)
    if dry_run:
        wanted = [model.key() for model in runs.models(work.dataset(), work.plan(plan), request)]
        console.as_json({"models": wanted}) if json else console.line("\n".join(["would train:", *wanted]))
        return
    with console.progress(silent=json) as tell:
        evaluations = training.train(work, request, tell=tell)
    if json:
        console.as_json([item.model_dump(mode="json") for item in evaluations])
        return
    rows = [(item.members[0], f"{item.mean_dice():.4f}", len(item.scores)) for item in evaluations]
    console.table("held-out cases", ("model", "mean Dice", "cases"), rows)
    console.line(f"next: autoseg ensemble -d {dataset}")


@app.command()
def ensemble(
    dataset: Name,
    plan: PlanName = "default",
    metric: Metric = "dice",
    seconds_per_case: SecondsPerCase = None,
    per_class: Annotated[
        bool, typer.Option(help="Let each structure have weights of its own; over-fits, most of all with few cases.")
    ] = False,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Choose what predicts, over all that was trained, judged on cases that no model saw."""
    from autoseg.pipeline import choosing
    from autoseg.records.requests import SelectRequest

    work = workspace(dataset, root)
    if dry_run:
        there = {name: list(folds) for name, folds in choosing.candidates(work, plan).items()}
        console.as_json(there) if json else console.table(
            "would choose among", ("candidate", "folds"), list(there.items())
        )
        return
    with console.progress(silent=json) as tell:
        request = SelectRequest(plan, metric, seconds_per_case, per_class)
        choice = choosing.ensemble(work, plan, request, tell=tell)
    views.choice(choice, json=json)


@app.command()
def compare(
    dataset: Name,
    plan: Annotated[str | None, typer.Option("--plan", help="Only models of this plan. [default: all]")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file for the table; structures and ranks go beside it.")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Put all trained models side by side: scores, cost, ranks, and which differences are more than chance."""
    from autoseg.pipeline import choosing

    found = choosing.compare(workspace(dataset, root), plan)
    if csv is not None:
        choosing.write_comparison(csv, found)
    score_views.candidates(found, json=json)


@app.command()
def froc(
    dataset: Name,
    plan: PlanName = "default",
    model: Annotated[str | None, typer.Option(help="This candidate. [default: the chosen ensemble]")] = None,
    structure: Annotated[list[str] | None, typer.Option(help="Only this structure (repeatable).")] = None,
    false_positives: Annotated[
        float | None, typer.Option(min=0, help="Cut within so many false positives a case. [default: greatest F1]")
    ] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Find lesions at every threshold of the held-out probabilities, and where to cut, chosen out of fold."""
    from autoseg.pipeline import choosing
    from autoseg.records.requests import FrocRequest

    most = float("inf") if false_positives is None else false_positives
    request = FrocRequest(model, tuple(structure or ()), most)
    with console.progress(silent=json) as tell:
        found = choosing.froc(workspace(dataset, root), plan, request, tell=tell)
    score_views.curves(found, json=json)


@app.command()
def run(
    dataset: Name,
    preset: Presets = "unet",
    plan: PlanName = "default",
    memory_gb: Annotated[float | None, typer.Option(min=0.5, help="Plan for a device with this memory.")] = None,
    set_: SetPlanning = None,
    calibration: CalibrationFile = None,
    minutes: Minutes = None,
    hours: Hours = None,
    metric: Metric = "dice",
    seconds_per_case: SecondsPerCase = None,
    device: Device = None,
    root: Root = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Do all of it: check, plan, preprocess, train, choose, report. Stop it at any time; run it again to go on."""
    from autoseg.pipeline import running
    from autoseg.records.requests import SelectRequest

    request = plan_request(
        plan, preset, memory_gb, budget(minutes, hours), device, settings=set_, calibration=calibration
    )
    work = workspace(dataset, root)
    if dry_run:
        steps = running.steps_left(work, request)
        console.as_json({"steps": steps}) if json else console.line("\n".join(["would do:", *steps]))
        return
    with console.progress(silent=json) as tell:
        choice = running.run(
            work, request, SelectRequest(plan, metric, seconds_per_case), workers=workers, skip_bad=skip_bad, tell=tell
        )
    views.choice(choice, json=json)
    if not json:
        console.line(f"report: {work.report_file(plan)}")
