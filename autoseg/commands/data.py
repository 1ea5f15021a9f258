"""Commands about data: fetch, import, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, words
from autoseg.commands.options import DryRun, Json, Name, Root, Workers, workspace

app = typer.Typer()


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A public data set; without a name, what there is.")] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder that it is put into.")] = Path("."),
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Download a public data set from its official place, or say where it has to be asked for."""
    from autoseg.pipeline import fetching

    there = fetching.known()
    if name is None:
        rows = [(item.name, item.about, item.licence or "to be asked for") for item in there.values()]
        content = [item.model_dump(mode="json") for item in there.values()]
        console.as_json(content) if json else console.table("public data sets", ("name", "what", "licence"), rows)
        return
    if dry_run:
        item = fetching.find(name, there)
        console.as_json(item.model_dump(mode="json")) if json else console.line(f"would fetch {item.url or item.ask}")
        return
    with console.progress(silent=json) as tell:
        folder = fetching.fetch(name, to.expanduser(), tell=tell, datasets=there)
    if json:
        console.as_json({"folder": str(folder)})
        return
    console.line(f"{folder} is there")
    console.line(f"next: autoseg import {folder} --as {fetching.find(name, there).name}")


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder with the data, or a file that lists them; the layout is recognised.")
    ],
    name: Annotated[str, typer.Option("--as", help="What to call the data set.")],
    root: Root = None,
    groups: Annotated[
        str | None,
        typer.Option(help="Which cases are one patient: a pattern with one group, a CSV table, or '(id+1)//2'."),
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="nnU-Net's splits_final.json.")] = None,
    folds_by: Annotated[
        str | None, typer.Option(help="A fold a value of this attribute (site), or of a CSV table of case and value.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="File with a case id a line: locked away for testing.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this case out (repeatable).")] = None,
    register: Annotated[list[str] | None, typer.Option(help="Register this channel onto the first, rigidly.")] = None,
    optional: Annotated[list[str] | None, typer.Option(help="Cases may lack this channel (repeatable).")] = None,
    nan: Annotated[str | None, typer.Option(help="Fill non-finite voxels: 'fill=min' or 'fill=NUMBER'.")] = None,
    resample_labels: Annotated[bool, typer.Option(help="Resample labels onto the image's grid.")] = False,
    roi_table: Annotated[
        Path | None, typer.Option(help="DICOM: CSV with columns roi and name: what ROIs are called (empty: left out).")
    ] = None,
    n4: Annotated[
        list[str] | None, typer.Option(help="Correct this MR channel's bias field (repeatable), or 'all-mr'.")
    ] = None,
    drop_specks: Annotated[
        float | None, typer.Option(metavar="MM3", help="Remove pieces of labels smaller than this, in mm3.")
    ] = None,
    crop_foreground: Annotated[
        bool, typer.Option("--crop-foreground", help="Crop scans to the body; predictions fill the whole scan.")
    ] = False,
    folds: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Recognise a data set's layout and remember where everything lies; nothing is copied."""
    from autoseg.pipeline import preparing
    from autoseg.stages import importing

    options = importing.ImportOptions(
        groups=groups,
        splits=splits,
        folds_by=folds_by,
        test_cases=words.lines(test) if test else (),
        skip=tuple(skip or ()),
        folds=folds,
        register=tuple(register or ()),
        optional=tuple(optional or ()),
        fill_nan=words.filling(nan),
        resample_labels=resample_labels,
        roi_table=roi_table,
        n4=tuple(n4 or ()),
        drop_specks_mm3=drop_specks,
        crop_foreground=crop_foreground,
    )
    work = workspace(name, root)
    dataset = preparing.import_dataset(source, work, options, dry_run=dry_run)
    if json:
        console.as_json(dataset.model_dump(mode="json"))
        return
    console.line(f"{dataset.name}: {dataset.layout} layout, {len(dataset.cases)} cases from {dataset.source}")
    console.line(f"channels: {', '.join(f'{item.name} ({item.kind})' for item in dataset.channels)}")
    console.line(f"structures: {', '.join(item.name for item in dataset.labels.structures)}")
    console.line(f"folds: {sum(fold.name != 'all' for fold in dataset.folds)}; {dataset.grouping}")
    for correction in dataset.corrections:
        console.line(f"correction: {correction.kind} {correction.channel or ''} because {correction.because}")
    for note in dataset.notes:
        console.line(f"note: {note}")
    console.line("nothing was written" if dry_run else f"next: autoseg run -d {name}")


@app.command()
def check(dataset: Name, root: Root = None, workers: Workers = None, json: Json = False) -> None:
    """List every problem of every case at once, each with its fix."""
    from autoseg.pipeline import preparing

    with console.progress(silent=json) as tell:
        report = preparing.check(workspace(dataset, root), workers=workers, tell=tell)
    if json:
        console.as_json(report.model_dump(mode="json"))
    elif report.problems:
        rows = [(p.severity, p.case or "", p.file or "", p.what, p.fix) for p in report.problems]
        console.table(f"{report.dataset}: {len(rows)} findings", ("", "case", "file", "what", "fix"), rows)
    else:
        console.line(f"{report.dataset}: {report.cases} cases, no problem found")
    if report.errors():
        raise typer.Exit(3)
