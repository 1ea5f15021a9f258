"""Commands about scans: predict, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, score_views, views
from autoseg.commands.options import (
    Device,
    DryRun,
    Json,
    MaybeName,
    Model,
    PlanName,
    Root,
    Workers,
    model_of,
    workspace,
)

app = typer.Typer()


@app.command()
def predict(
    source: Annotated[Path, typer.Option("-i", "--input", help="A scan, a folder of scans, or of DICOM series.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the label maps.")],
    dataset: MaybeName = None,
    model: Model = None,
    plan: PlanName = "default",
    mirror: Annotated[bool, typer.Option(help="Average over flipped images: up to 8 times the cost.")] = True,
    fast: Annotated[
        bool, typer.Option("--fast", help="Find where structures are by a quick pass, and predict only around them.")
    ] = False,
    step: Annotated[float, typer.Option(min=0.1, max=1.0, help="Distance of windows, as a share of the patch.")] = 0.5,
    resume: Annotated[bool, typer.Option(help="Keep whole label maps that are there already.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="auto (as the scan came in), nifti, nrrd (3D Slicer), mha, png, tif, masks (a file a structure), "
            "rle (Kaggle's CSV); for DICOM series dicom-seg, dicom-seg-binary, rtstruct. "
            "[default: nifti; pictures for pictures]",
        ),
    ] = None,
    label_file: Annotated[bool, typer.Option("--label-file", help="Write labels.txt for ITK-SNAP, too.")] = False,
    new_uids: Annotated[
        bool, typer.Option("--new-uids", help="DICOM: where UIDs are empty, write a copy of the images with new ones.")
    ] = False,
    hide_patient_id: Annotated[
        bool, typer.Option("--hide-patient-id", help="DICOM: write a pseudonym in place of PatientID.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write maps of entropy and disagreement, to OUTPUT/uncertainty.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write each structure's probability, to OUTPUT/probabilities.")
    ] = False,
    refer: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Name the scans that a person must look at: Dice may be below this."),
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="For windows and logits of a scan; tiles shrink to fit. [default: half of free memory]"
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16. [default: that of the training where it is fast]")
    ] = None,
    device: Device = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Predict new scans with the chosen ensemble of a data set, or with a model file that needs nothing else."""
    from autoseg.pipeline import predicting
    from autoseg.records.requests import PredictRequest

    predictor, members = model_of(dataset, root, model)
    request = PredictRequest(
        plan=plan,
        members=members,
        device=device,
        mirror=mirror,
        step_fraction=step,
        resume=resume,
        uncertainty=uncertainty or refer is not None,
        format=format,
        label_file=label_file,
        new_uids=new_uids,
        hide_patient_id=hide_patient_id,
        memory_gb=memory_gb,
        precision=precision,
        fast=fast,
        probabilities=probabilities,
    )
    if dry_run:
        found, costs = predicting.preview(predictor, source, request)
        console.as_json([vars(cost) for cost in costs]) if json else views.expected_costs(found, costs)
        return
    with console.progress(silent=json) as tell:
        written = predicting.predict(predictor, source, output, request, tell=tell)
    content = {case: str(file) for case, file in written.items()}
    console.as_json(content) if json else console.line(f"{len(content)} label maps in {output}")
    if refer is not None and not json:
        views.referred(predicting.referred(output, list(written), refer), refer)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option("-p", "--predictions", help="Folder of predicted label maps.")],
    truths: Annotated[Path, typer.Option("-t", "--truths", help="Folder of true label maps, equally named.")],
    dataset: Annotated[str | None, typer.Option("-d", "--dataset", help="Data set that names the structures.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV file for every score.")] = None,
    metrics: Annotated[
        str, typer.Option(help="all, usual, or some of overlap, surfaces, slices, gi_tract, lesions, by commas.")
    ] = "usual",
    lesions: Annotated[bool, typer.Option("--lesions", help="Count every connected piece as a lesion, too.")] = False,
    tolerances: Annotated[
        Path | None, typer.Option(help="CSV file with structure,tolerance_mm for the surface Dice.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also by this attribute of the cases, lesion_count or lesion_place (repeatable)."),
    ] = None,
    success_dice: Annotated[float, typer.Option(min=0, max=1, help="Dice from which on a case is a success.")] = 0.7,
    workers: Workers = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Score label maps against the truth: overlap, distances, volumes, lesions. docs/metrics.md defines each figure."""
    from autoseg import words
    from autoseg.pipeline import scoring
    from autoseg.records.requests import EvaluateRequest

    request = EvaluateRequest(
        families=words.families(metrics, lesions=lesions),
        tolerances=tolerances,
        by=tuple(by or ()),
        success_dice=success_dice,
        output=output,
        workers=workers,
    )
    known = workspace(dataset, root).dataset() if dataset else None
    found = scoring.evaluate(predictions, truths, known, request)
    if json:
        content = found.model_dump(mode="json")
        console.as_json(content.pop("evaluation") | content)
        return
    score_views.evaluation(found)
