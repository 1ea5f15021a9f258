"""Commands about scans: predict, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, views
from autoseg.commands.options import Device, DryRun, Json, Name, PlanName, Root, workspace

app = typer.Typer()


@app.command()
def predict(
    dataset: Name,
    source: Annotated[Path, typer.Option("-i", "--input", help="A scan, or a folder of scans.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the label maps.")],
    plan: PlanName = "default",
    members: Annotated[list[str] | None, typer.Option("-m", "--members", help="Use these models (repeatable).")] = None,
    mirror: Annotated[bool, typer.Option(help="Average over flipped images: up to 8 times the cost.")] = True,
    step: Annotated[float, typer.Option(min=0.1, max=1.0, help="Distance of windows, as a share of the patch.")] = 0.5,
    resume: Annotated[bool, typer.Option(help="Keep whole label maps that are there already.")] = False,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.01, help="For a scan's logits; tiles shrink to fit. [default: half of free memory]"),
    ] = None,
    device: Device = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Predict new scans with the chosen ensemble."""
    from autoseg.pipeline import predicting
    from autoseg.records.requests import PredictRequest

    request = PredictRequest(plan, tuple(members or ()), device, mirror, step, resume, memory_gb=memory_gb)
    work = workspace(dataset, root)
    if dry_run:
        found = predicting.scans(work, source, plan)
        console.as_json(found) if json else console.line(f"would predict {len(found)} scans: {', '.join(found)}")
        return
    with console.progress(silent=json) as tell:
        written = predicting.predict(work, source, output, request, tell=tell)
    content = {case: str(file) for case, file in written.items()}
    console.as_json(content) if json else console.line(f"{len(content)} label maps in {output}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option("-p", "--predictions", help="Folder of predicted label maps.")],
    truths: Annotated[Path, typer.Option("-t", "--truths", help="Folder of true label maps, equally named.")],
    dataset: Annotated[str | None, typer.Option("-d", "--dataset", help="Data set that names the structures.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV file for every score.")] = None,
    lesions: Annotated[bool, typer.Option("--lesions", help="Count every connected piece as a lesion, too.")] = False,
    root: Root = None,
    json: Json = False,
) -> None:
    """Score label maps against the truth: Dice, IoU, HD95, surface Dice, precision, recall, ASSD, volumes, lesions."""
    from autoseg.pipeline import predicting

    labels = workspace(dataset, root).dataset().labels if dataset else None
    evaluation, summaries = predicting.evaluate(predictions, truths, labels, output, lesions=lesions)
    if json:
        console.as_json(evaluation.model_dump(mode="json"))
        return
    views.scores(f"{len(evaluation.scores)} cases, mean Dice {evaluation.mean_dice():.4f}", summaries)
