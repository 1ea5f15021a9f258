"""Options that many commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from autoseg.workspace import Workspace

Name = Annotated[str, typer.Option("-d", "--dataset", help="Data set: a name in the workspace, or a path.")]
Root = Annotated[str | None, typer.Option(help="Workspace folder. [default: $AUTOSEG_ROOT or ./autoseg_data]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
PlanName = Annotated[str, typer.Option("--plan", help="Name of the plan.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu. [default: the fastest there is]")]
Workers = Annotated[int | None, typer.Option(help="Processes that read cases. [default: one a core]")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave cases with errors out from now on; the report says which and why.")
]
Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Budget for training the whole line-up, held-out prediction included.")
]

Hours = Annotated[float | None, typer.Option(min=0.01, help="The same budget in hours, instead of --minutes.")]
Presets = Annotated[
    str, typer.Option(help="Presets by name or path, separated by commas; auto lets the planner choose.")
]
SetPlanning = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a key of the presets by hand: spacing_mm=[3,1,1] (repeatable; needs --plan)."),
]
CalibrationFile = Annotated[
    str | None, typer.Option("--calibration", help="Plan for the device that this file was measured on.")
]


def budget(minutes: float | None, hours: float | None) -> float | None:
    """Return the budget in minutes.

    Raises:
        UsageError: It was given twice.
    """
    from autoseg.records.errors import UsageError

    if minutes is not None and hours is not None:
        raise UsageError("--minutes and --hours are one budget, given twice", fix="Give one of them.")
    return minutes if hours is None else 60 * hours


Metric = Annotated[
    Literal["dice", "surface_dice", "lesion_f1", "mean_rank"],
    typer.Option(help="What the ensemble is chosen by; mean_rank: over Dice and surface Dice, case by case."),
]
SecondsPerCase = Annotated[
    float | None,
    typer.Option(min=0.001, help="What the ensemble may cost for one case, as measured on the held-out cases."),
]
MaybeName = Annotated[
    str | None,
    typer.Option("-d", "--dataset", help="Data set: a name in the workspace, or a path. Not with a model file."),
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        "--members",
        help="A model file (.zip) or ONNX folder; or members to use (repeatable).",
    ),
]


def model_of(dataset: str | None, root: str | None, named: list[str] | None) -> tuple[Any, tuple[str, ...]]:
    """Return what predicts, a workspace or the path of a model file, and the names of members that were given.

    Raises:
        UsageError: Neither or both were given, two model files, or something that is none.
    """
    from autoseg.records.errors import UsageError
    from autoseg.records.package import MANIFEST

    words = named or []
    files = [word for word in words if word.lower().endswith(".zip") or (Path(word) / MANIFEST).is_file()]
    members = tuple(word for word in words if word not in files)
    if members and dataset is None and not files:
        fix = "Give a .zip that `autoseg export` wrote or its ONNX folder; members of a data set need -d as well."
        raise UsageError("this is no model file", file=Path(members[0]), fix=fix, code="no_model_file")
    if len(files) + (dataset is not None) != 1:
        found = "both a data set and a model file" if files and dataset else f"{len(files)} model files"
        fix = "Give -d NAME for a data set of the workspace, or -m model.zip for a model file."
        raise UsageError(f"{found} were given, but one thing predicts", fix=fix, code="which_model")
    return (workspace(dataset, root) if dataset is not None else Path(files[0])), members


def workspace(dataset: str, root: str | None) -> Workspace:
    """Return the workspace of a data set, by name or by path."""
    from autoseg.workspace import Workspace

    return Workspace.locate(dataset, root)


def plan_request(
    plan: str,
    preset: str,
    memory_gb: float | None,
    minutes: float | None,
    device: str | None,
    *,
    settings: list[str] | None = None,
    calibration: str | None = None,
) -> Any:
    """Return what was said about a plan."""
    from autoseg import words
    from autoseg.records.requests import PlanRequest

    return PlanRequest(
        plan=plan,
        presets=tuple(filter(None, preset.split(","))),
        memory_gb=memory_gb,
        minutes=minutes,
        device=device,
        settings=words.planning_settings(settings or [], plan=plan),
        calibration=calibration or "",
    )
