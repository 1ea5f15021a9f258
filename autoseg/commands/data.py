"""Commands about data: import, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg import console, words
from autoseg.commands.options import DryRun, Json, Name, Root, Workers, workspace

app = typer.Typer()


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
    test: Annotated[Path | None, typer.Option(help="File with a case id a line: locked away for testing.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this case out (repeatable).")] = None,
    register: Annotated[list[str] | None, typer.Option(help="Register this channel onto the first, rigidly.")] = None,
    nan: Annotated[str | None, typer.Option(help="Fill non-finite voxels: 'fill=min' or 'fill=NUMBER'.")] = None,
    resample_labels: Annotated[bool, typer.Option(help="Resample labels onto the image's grid.")] = False,
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
        test_cases=words.lines(test) if test else (),
        skip=tuple(skip or ()),
        folds=folds,
        register=tuple(register or ()),
        fill_nan=words.filling(nan),
        resample_labels=resample_labels,
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
