"""Commands that show what there is: report, status, doctor, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, views
from autoseg.commands.options import DryRun, Json, Name, PlanName, Root, workspace

app = typer.Typer()


@app.command()
def report(
    dataset: Name, plan: PlanName = "default", root: Root = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Write the report: one HTML file that opens anywhere."""
    work = workspace(dataset, root)
    if dry_run:
        file = work.report_file(plan)
    else:
        from autoseg.pipeline import running

        with console.progress(silent=json) as tell:
            file = running.report(work, plan, tell=tell)
    console.as_json({"report": str(file)}) if json else console.line(f"{'would write ' if dry_run else ''}{file}")


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
    views.scores(f"unseen cases: mean Dice {result.evaluation.mean_dice():.3f}", result.summaries)
    console.line(f"report: {result.report}")
