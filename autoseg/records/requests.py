"""What a user may say about a command; everything else follows from the data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlanRequest:
    """What a user may say about a plan; the rules decide everything else."""

    plan: str = "default"
    presets: tuple[str, ...] = ("unet",)
    memory_gb: float | None = None
    minutes: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class TrainRequest:
    """What a user may say about training."""

    plan: str = "default"
    folds: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    variant: str = "base"
    seed: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    minutes: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class PredictRequest:
    """What a user may say about a prediction."""

    plan: str = "default"
    members: tuple[str, ...] = ()
    device: str | None = None
    mirror: bool = True
    step_fraction: float = 0.5
    resume: bool = False
    memory_gb: float | None = None
