"""Commands that show what there is: explore, report, explain-case, status, doctor, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from autoseg import console, score_views
from autoseg.commands.options import Device, DryRun, Json, Name, PlanName, Root, Workers, workspace

app = typer.Typer()


@app.command()
def explore(
    dataset: Name, root: Root = None, workers: Workers = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Show the data alone, before any training: one HTML file with shapes, intensities, class sizes, odd cases."""
    work = workspace(dataset, root)
    if dry_run:
        work.dataset()
        file = work.explore_file
    else:
        from autoseg.pipeline import running

        with console.progress(silent=json) as tell:
            file = running.explore(work, workers=workers, tell=tell)
    _say_where("explore", file, dry_run=dry_run, json=json)


@app.command()
def report(
    dataset: Name,
    plan: PlanName = "default",
    case: Annotated[str | None, typer.Option("--case", help="Only this held-out case, in full.")] = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write the report: one HTML file that opens anywhere."""
    work = workspace(dataset, root)
    if dry_run:
        file = work.case_report_file(plan, case) if case else work.report_file(plan)
    else:
        from autoseg.pipeline import running

        with console.progress(silent=json) as tell:
            file = running.case_report(work, plan, case) if case else running.report(work, plan, tell=tell)
    _say_where("report", file, dry_run=dry_run, json=json)


@app.command("explain-case")
def explain_case(
    dataset: Name,
    case: Annotated[str, typer.Option("--case", help="A held-out case.")],
    model: Annotated[
        str | None, typer.Option(help="This candidate. [default: the ensemble's heaviest member, or the only one]")
    ] = None,
    structure: Annotated[
        list[str] | None, typer.Option(help="A map of this structure (repeatable). [default: one of all together]")
    ] = None,
    method: Annotated[
        Literal["attention", "gradient"] | None,
        typer.Option(help="[default: attention where every token sees every other, else gradient]"),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder. [default: beside the report]")] = None,
    plan: PlanName = "default",
    device: Device = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Show what a trained network looks at in a case that it never saw: maps as NIfTI, PNG and one HTML file."""
    work = workspace(dataset, root)
    if dry_run:
        file = output or work.explained(plan, case)
    else:
        from autoseg.pipeline import explaining
        from autoseg.records.requests import ExplainRequest

        request = ExplainRequest(plan, case, model, tuple(structure or ()), method, output, device)
        with console.progress(silent=json) as tell:
            file = explaining.explain_case(work, request, tell=tell)
    _say_where("explained", file, dry_run=dry_run, json=json)


@app.command()
def status(
    dataset: Annotated[str | None, typer.Option("-d", "--dataset", help="One data set. [default: all]")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Show what is imported, planned, trained and chosen."""
    from autoseg import overview
    from autoseg.workspace import workspace_root

    rows = overview.status(workspace(dataset, root)) if dataset else overview.datasets(workspace_root(root))
    if json:
        console.as_json(rows)
    elif rows:
        columns = list(rows[0])
        console.table(dataset or "data sets", columns, [[row[column] for column in columns] for row in rows])
    elif dataset:
        console.line(f"nothing is planned yet; next: autoseg plan_and_preprocess -d {dataset}")
    else:
        console.line(f"nothing yet in {workspace_root(root)}; import a data set with `autoseg import FOLDER --as NAME`")


@app.command()
def doctor(root: Root = None, json: Json = False) -> None:
    """Look at this machine: versions, device, memory, disk, and whether the workspace can be written."""
    from autoseg import overview
    from autoseg.workspace import workspace_root

    rows = overview.doctor(workspace_root(root))
    if json:
        console.as_json(rows)
    else:
        console.table("this machine", ("what", "value"), list(rows.items()))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write everything.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Budget for training.")] = 5.0,
    json: Json = False,
) -> None:
    """Write small phantom heads in the layout of HaN-Seg and do everything with them, from import to report."""
    from autoseg.demo import demo as whole_way

    with console.progress(silent=json) as tell:
        result = whole_way(folder, minutes, tell=tell)
    if json:
        console.as_json(result.as_json())
        return
    score_views.scores(f"unseen cases: mean Dice {result.evaluation.mean_dice():.3f}", result.summaries)
    console.line(f"report: {result.report}")


def _say_where(what: str, file: Path, *, dry_run: bool, json: bool) -> None:
    console.as_json({what: str(file)}) if json else console.line(f"{'would write ' if dry_run else ''}{file}")
