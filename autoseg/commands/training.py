"""Commands about models: train, ensemble, compare, run."""

from __future__ import annotations

from typing import Annotated

import typer

from autoseg import console, views, words
from autoseg.commands.options import (
    Device,
    DryRun,
    Json,
    Metric,
    Minutes,
    Name,
    PlanName,
    Root,
    SecondsPerCase,
    Workers,
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
    seed: Annotated[int, typer.Option(help="Another seed trains another model beside.")] = 0,
    minutes: Minutes = None,
    device: Device = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the line-up, predict the held-out cases, and score them. Run it again to resume."""
    from autoseg.pipeline import training
    from autoseg.records.requests import TrainRequest
    from autoseg.stages.training import runs

    request = TrainRequest(
        plan=plan,
        folds=words.folds(folds),
        configurations=tuple(configuration or ()),
        variant=variant,
        seed=seed,
        settings=words.settings(set_ or []),
        minutes=minutes,
        device=device,
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
        choice = choosing.ensemble(work, plan, SelectRequest(plan, metric, seconds_per_case), tell=tell)
    views.choice(choice, json=json)


@app.command()
def compare(
    dataset: Name,
    plan: Annotated[str | None, typer.Option("--plan", help="Only models of this plan. [default: all]")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Put all trained models side by side: scores, cost, and which differences are more than chance."""
    from autoseg.pipeline import choosing

    views.candidates(choosing.compare(workspace(dataset, root), plan), json=json)


@app.command()
def run(
    dataset: Name,
    preset: Annotated[str, typer.Option(help="Presets by name or path, separated by commas.")] = "unet",
    plan: PlanName = "default",
    memory_gb: Annotated[float | None, typer.Option(min=0.5, help="Plan for a device with this memory.")] = None,
    minutes: Minutes = None,
    metric: Metric = "dice",
    seconds_per_case: SecondsPerCase = None,
    device: Device = None,
    root: Root = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Do all of it: check, plan, preprocess, train, choose, report. Stop it at any time; run it again to go on."""
    from autoseg.pipeline import running
    from autoseg.records.requests import SelectRequest

    request = plan_request(plan, preset, memory_gb, minutes, device)
    work = workspace(dataset, root)
    if dry_run:
        steps = running.steps_left(work, request)
        console.as_json({"steps": steps}) if json else console.line("\n".join(["would do:", *steps]))
        return
    with console.progress(silent=json) as tell:
        selection = SelectRequest(plan, metric, seconds_per_case)
        choice = running.run(work, request, selection, workers=workers, tell=tell)
    views.choice(choice, json=json)
    if not json:
        console.line(f"report: {work.report_file(plan)}")
