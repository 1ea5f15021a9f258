"""Options that many commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Budget for training the whole line-up, held-out prediction included.")
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
        UsageError: Neither or both were given, or two model files.
    """
    from autoseg.records.errors import UsageError
    from autoseg.records.package import MANIFEST

    words = named or []
    files = [word for word in words if word.lower().endswith(".zip") or (Path(word) / MANIFEST).is_file()]
    members = tuple(word for word in words if word not in files)
    if len(files) + (dataset is not None) != 1:
        found = "both a data set and a model file" if files and dataset else f"{len(files)} model files"
        fix = "Give -d NAME for a data set of the workspace, or -m model.zip for a model file."
        raise UsageError(f"{found} were given, but one thing predicts", fix=fix, code="which_model")
    return (workspace(dataset, root) if dataset is not None else Path(files[0])), members


def workspace(dataset: str, root: str | None) -> Workspace:
    """Return the workspace of a data set, by name or by path."""
    from autoseg.workspace import Workspace

    return Workspace.locate(dataset, root)


def plan_request(plan: str, preset: str, memory_gb: float | None, minutes: float | None, device: str | None) -> Any:
    """Return what was said about a plan."""
    from autoseg.records.requests import PlanRequest

    presets = tuple(filter(None, preset.split(",")))
    return PlanRequest(plan=plan, presets=presets, memory_gb=memory_gb, minutes=minutes, device=device)
