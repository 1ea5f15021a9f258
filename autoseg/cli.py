"""Words typed -> one pipeline call. Everything heavy is imported inside a command, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoseg import console, views, words
from autoseg.records.errors import INTERRUPTED, UserError

if TYPE_CHECKING:
    from autoseg.workspace import Workspace

app = typer.Typer(
    help="Self-configuring segmentation of medical images: point it at a data set, and it does the rest and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Option("-d", "--dataset", help="Data set: a name in the workspace, or a path.")]
Root = Annotated[str | None, typer.Option(help="Workspace folder. [default: $AUTOSEG_ROOT or ./autoseg_data]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
PlanName = Annotated[str, typer.Option("--plan", help="Name of the plan.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu. [default: the fastest there is]")]
Workers = Annotated[int | None, typer.Option(help="Processes that read cases. [default: one a core]")]
Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Budget for training the whole line-up, held-out prediction included.")
]


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder with the data, or a MONAI datalist; its layout is recognised.")
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
    folds: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Recognise a data set's layout and remember where everything lies; nothing is copied."""
    from autoseg import pipeline
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
    )
    work = _workspace(name, root)
    dataset = pipeline.import_dataset(source, work, options, dry_run=dry_run)
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
    from autoseg import pipeline

    report = pipeline.check(_workspace(dataset, root), workers=workers)
    if json:
        console.as_json(report.model_dump(mode="json"))
    elif report.problems:
        rows = [(p.severity, p.case or "", p.file or "", p.what, p.fix) for p in report.problems]
        console.table(f"{report.dataset}: {len(rows)} findings", ("", "case", "file", "what", "fix"), rows)
    else:
        console.line(f"{report.dataset}: {report.cases} cases, no problem found")
    if report.errors():
        raise typer.Exit(3)


@app.command("plan_and_preprocess")
def plan_and_preprocess(
    dataset: Name,
    preset: Annotated[str, typer.Option(help="Presets by name or path, separated by commas.")] = "unet",
    plan: PlanName = "default",
    memory_gb: Annotated[float | None, typer.Option(min=0.5, help="Plan for a device with this memory.")] = None,
    minutes: Minutes = None,
    device: Device = None,
    root: Root = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Measure the data set, plan, and preprocess every case."""
    from autoseg import pipeline

    request = _plan_request(plan, preset, memory_gb, minutes, device)
    work = _workspace(dataset, root)
    with console.progress(silent=json) as tell:
        if dry_run:
            made = pipeline.make_plan(work, request, workers=workers, write=False)
        else:
            made = pipeline.plan_and_preprocess(work, request, workers=workers, tell=tell)
    if json:
        console.as_json(made.model_dump(mode="json"))
        return
    views.plan(made)
    views.forecast(pipeline.forecast(work, made, request) if dry_run else work.forecast(made.name))
    console.line("nothing was written" if dry_run else f"next: autoseg train -d {dataset}")


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
    from autoseg import pipeline
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
    work = _workspace(dataset, root)
    if dry_run:
        wanted = [model.key() for model in runs.models(work.dataset(), work.plan(plan), request)]
        console.as_json({"models": wanted}) if json else console.line("\n".join(["would train:", *wanted]))
        return
    with console.progress(silent=json) as tell:
        evaluations = pipeline.train(work, request, tell=tell)
    if json:
        console.as_json([item.model_dump(mode="json") for item in evaluations])
        return
    rows = [(item.members[0], f"{item.mean_dice():.4f}", len(item.scores)) for item in evaluations]
    console.table("held-out cases", ("model", "mean Dice", "cases"), rows)
    console.line(f"next: autoseg ensemble -d {dataset}")


@app.command()
def ensemble(
    dataset: Name, plan: PlanName = "default", root: Root = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Choose what predicts, over all that was trained, judged on cases that no model saw."""
    from autoseg import pipeline

    work = _workspace(dataset, root)
    if dry_run:
        there = {name: list(folds) for name, folds in pipeline.candidates(work, plan).items()}
        console.as_json(there) if json else console.table(
            "would choose among", ("candidate", "folds"), list(there.items())
        )
        return
    with console.progress(silent=json) as tell:
        choice = pipeline.ensemble(work, plan, tell=tell)
    views.choice(choice, json=json)


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
    device: Device = None,
    root: Root = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Predict new scans with the chosen ensemble."""
    from autoseg import pipeline
    from autoseg.records.requests import PredictRequest

    request = PredictRequest(plan, tuple(members or ()), device, mirror, step, resume)
    work = _workspace(dataset, root)
    if dry_run:
        found = pipeline.scans(work, source, plan)
        console.as_json(found) if json else console.line(f"would predict {len(found)} scans: {', '.join(found)}")
        return
    with console.progress(silent=json) as tell:
        written = pipeline.predict(work, source, output, request, tell=tell)
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
    from autoseg import pipeline

    labels = _workspace(dataset, root).dataset().labels if dataset else None
    evaluation, summaries = pipeline.evaluate(predictions, truths, labels, output, lesions=lesions)
    if json:
        console.as_json(evaluation.model_dump(mode="json"))
        return
    views.scores(f"{len(evaluation.scores)} cases, mean Dice {evaluation.mean_dice():.4f}", summaries)


@app.command()
def compare(
    dataset: Name,
    plan: Annotated[str | None, typer.Option("--plan", help="Only models of this plan. [default: all]")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Put all trained models side by side: scores, cost, and which differences are more than chance."""
    from autoseg import pipeline

    views.candidates(pipeline.compare(_workspace(dataset, root), plan), json=json)


@app.command()
def report(
    dataset: Name, plan: PlanName = "default", root: Root = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Write the report: one HTML file that opens anywhere."""
    work = _workspace(dataset, root)
    if dry_run:
        file = work.report_file(plan)
    else:
        from autoseg import pipeline

        with console.progress(silent=json) as tell:
            file = pipeline.report(work, plan, tell=tell)
    console.as_json({"report": str(file)}) if json else console.line(f"{'would write ' if dry_run else ''}{file}")


@app.command()
def run(
    dataset: Name,
    preset: Annotated[str, typer.Option(help="Presets by name or path, separated by commas.")] = "unet",
    plan: PlanName = "default",
    memory_gb: Annotated[float | None, typer.Option(min=0.5, help="Plan for a device with this memory.")] = None,
    minutes: Minutes = None,
    device: Device = None,
    root: Root = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Do all of it: check, plan, preprocess, train, choose, report. Stop it at any time; run it again to go on."""
    from autoseg import pipeline

    request = _plan_request(plan, preset, memory_gb, minutes, device)
    work = _workspace(dataset, root)
    if dry_run:
        steps = pipeline.steps_left(work, request)
        console.as_json({"steps": steps}) if json else console.line("\n".join(["would do:", *steps]))
        return
    with console.progress(silent=json) as tell:
        choice = pipeline.run(work, request, workers=workers, tell=tell)
    views.choice(choice, json=json)
    if not json:
        console.line(f"report: {work.report_file(plan)}")


@app.command()
def status(
    dataset: Annotated[str | None, typer.Option("-d", "--dataset", help="One data set. [default: all]")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Show what is imported, planned, trained and chosen."""
    from autoseg import overview
    from autoseg.workspace import workspace_root

    rows = overview.status(_workspace(dataset, root)) if dataset else overview.datasets(workspace_root(root))
    if json:
        console.as_json(rows)
    elif rows:
        columns = list(rows[0])
        console.table(dataset or "data sets", columns, [[row[column] for column in columns] for row in rows])
    else:
        console.line(f"nothing yet in {workspace_root(root)}; import a data set with `autoseg import FOLDER --as NAME`")


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
    work = _workspace(dataset, root)
    made = work.plan(plan)
    if compare is not None:
        views.differences(made, _other_plan(work, compare), json=json)
        return
    if json:
        console.as_json([item.model_dump() for item in made.decisions])
        return
    rows = [(item.what, item.value, item.because) for item in made.decisions]
    console.table(f"{dataset}, plan {plan}", ("what", "value", "because"), rows)


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


def main() -> None:
    """Run the command line and exit with its code: 0 done, 2 usage, 3 data, 4 some failed, 5 resources, 130 stopped."""
    typed = sys.argv[1:]
    debug = "--debug" in typed
    console.start_logging(debug=debug)
    try:
        app(args=[word for word in typed if word != "--debug"], standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        console.failure(error, json_output="--json" in typed)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit without a word.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        console.stopped()
        sys.exit(INTERRUPTED)


def _workspace(dataset: str, root: str | None) -> Workspace:
    from autoseg.workspace import Workspace

    return Workspace.locate(dataset, root)


def _plan_request(plan: str, preset: str, memory_gb: float | None, minutes: float | None, device: str | None) -> Any:
    from autoseg.records.requests import PlanRequest

    presets = tuple(filter(None, preset.split(",")))
    return PlanRequest(plan=plan, presets=presets, memory_gb=memory_gb, minutes=minutes, device=device)


def _other_plan(work: Any, name: str) -> Any:
    from autoseg.records.plan import Plan
    from autoseg.workspace import read_record

    if os.sep in name or name.endswith(".json"):
        return read_record(Path(name).expanduser(), Plan, missing="Check the path.")
    return work.plan(name)


if __name__ == "__main__":
    main()
