"""Options that many commands share, and what they mean."""

from __future__ import annotations

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
Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Budget for training the whole line-up, held-out prediction included.")
]

Metric = Annotated[
    Literal["dice", "surface_dice", "lesion_f1", "mean_rank"],
    typer.Option(help="What the ensemble is chosen by; mean_rank: over Dice and surface Dice, case by case."),
]
SecondsPerCase = Annotated[
    float | None,
    typer.Option(min=0.001, help="What the ensemble may cost for one case, as measured on the held-out cases."),
]


def workspace(dataset: str, root: str | None) -> Workspace:
    """Return the workspace of a data set, by name or by path."""
    from autoseg.workspace import Workspace

    return Workspace.locate(dataset, root)


def plan_request(plan: str, preset: str, memory_gb: float | None, minutes: float | None, device: str | None) -> Any:
    """Return what was said about a plan."""
    from autoseg.records.requests import PlanRequest

    presets = tuple(filter(None, preset.split(",")))
    return PlanRequest(plan=plan, presets=presets, memory_gb=memory_gb, minutes=minutes, device=device)
