"""Commands that take a model elsewhere: export, import-model, serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autoseg import console
from autoseg.commands.options import Device, DryRun, Json, MaybeName, Model, PlanName, Root, model_of

app = typer.Typer()

Licence = Annotated[str, typer.Option(help="Licence of the model, for the manifest.")]
IntendedUse = Annotated[str, typer.Option(help="What the model is meant for, for the manifest.")]


@app.command()
def export(
    dataset: MaybeName = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The model file, ending in .zip.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="Folder for every network as ONNX, with a manifest.")] = None,
    container: Annotated[Path | None, typer.Option(help="Folder to build a container from.")] = None,
    model: Model = None,
    plan: PlanName = "default",
    licence: Licence = "",
    intended_use: IntendedUse = "",
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write the chosen ensemble as one file that predicts anywhere, as ONNX networks, or as a container."""
    from autoseg.records.errors import UsageError
    from autoseg.records.requests import ExportRequest

    given, members = model_of(dataset, root, model)
    request = ExportRequest(plan, members, output, onnx, container, licence, intended_use)
    places = {name: str(path) for name, path in (("model", output), ("onnx", onnx), ("container", container)) if path}
    if not places or (output and isinstance(given, Path)):
        what = "the model is a file already" if output else "there is nothing to write"
        raise UsageError(
            what, fix="Give -o model.zip with -d NAME, --onnx FOLDER or --container FOLDER.", code="no_output"
        )
    if not dry_run:
        from autoseg.pipeline import exporting

        with console.progress(silent=json) as tell:
            exporting.export(given, request, tell=tell)
    if json:
        console.as_json(places)
        return
    for name, path in places.items():
        console.line(f"{'would write ' if dry_run else ''}{name}: {path}")


@app.command("import-model")
def import_model(
    source: Annotated[
        Path, typer.Argument(help="A trained model folder of nnU-Net v2: plans.json, dataset.json, fold_0 ...")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model file, ending in .zip.")],
    licence: Licence = "",
    intended_use: IntendedUse = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a model file of a published nnU-Net v2 model; nothing in the folder is executed."""
    from autoseg.pipeline import exporting

    place = None if dry_run else output
    package = exporting.import_model(source, place, licence=licence, intended_use=intended_use)
    if json:
        console.as_json({"model": str(output), "notes": list(package.notes)})
        return
    for note in package.notes:
        console.line(note)
    console.line(f"{'would write ' if dry_run else ''}model: {output}")


@app.command()
def serve(
    model: Annotated[Path, typer.Option("-m", "--model", help="A model file (.zip) or ONNX folder.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Where to listen; anything but loopback lets others in.")] = "127.0.0.1",
    max_mb: Annotated[float, typer.Option(min=0.001, help="Largest upload, in MB.")] = 1024.0,
    queue: Annotated[int, typer.Option(min=0, help="Cases that may wait beside the one that is computed.")] = 4,
    mirror: Annotated[bool, typer.Option(help="Average over flipped images: up to 8 times the cost.")] = True,
    step: Annotated[float, typer.Option(min=0.1, max=1.0, help="Distance of windows, as a share of the patch.")] = 0.5,
    device: Device = None,
) -> None:
    """Answer HTTP: POST a volume to /predict and get its label map back."""
    from autoseg import Predictor, serving

    predictor = Predictor.load(model, device=device, mirror=mirror, step_fraction=step)
    limits = serving.Limits(max_bytes=int(max_mb * 1e6), queue=queue)

    def tell(text: str) -> None:
        console.line(text)
        sys.stdout.flush()  # who started the server waits for this line

    serving.serve(predictor, host=host, port=port, limits=limits, tell=tell)
