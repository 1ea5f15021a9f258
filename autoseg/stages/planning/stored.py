"""Dry runs written down: reading them back makes a plan's rules checkable in seconds, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.records.configuration import Architecture
from autoseg.records.errors import DataError
from autoseg.records.geometry import Shape
from autoseg.records.preset import Recipe
from autoseg.stages.planning.costs import Cost, StepCost

Points = dict[str, tuple[int, int, float]]
"""Key of a step (`key`) -> peak bytes, parameters, operations."""


@dataclass(frozen=True)
class StoredCost:
    """A step that was measured once."""

    peak_bytes: int
    parameters: int
    flops: float


def key(architecture: Architecture, recipe: Recipe, patch_shape: Sequence[int], batch_size: int) -> str:
    """Return what a step is found by: digests of network and recipe, patch and batch."""
    shape = "x".join(str(size) for size in patch_shape)
    return f"{architecture.digest()[:12]} {recipe.digest()[:8]} {shape} {batch_size}"


def recording(cost: Cost, points: Points) -> Cost:
    """Return `cost`, looking first into `points` and writing there what it had to measure.

    Args:
        cost: Measures a step.
        points: Of one precision and one kind of device; filled.
    """

    def measured(
        architecture: Architecture,
        recipe: Recipe,
        patch_shape: Shape,
        batch_size: int,
        *,
        precision: str,
        device_kind: str,
    ) -> StepCost:
        found = key(architecture, recipe, patch_shape, batch_size)
        if found not in points:
            step = cost(architecture, recipe, patch_shape, batch_size, precision=precision, device_kind=device_kind)
            points[found] = (step.peak_bytes, step.parameters, step.flops)
        return StoredCost(*points[found])

    return measured


def reading(points: Points, *, preset: str, file: object) -> Cost:
    """Return a cost that only reads `points`.

    Args:
        points: As `recording` filled them.
        preset: Named in the message of a missing point.
        file: Where they are from, for the message.

    Raises:
        DataError: When called for a step that is not there.
    """

    def missing(architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int, **_: str) -> StepCost:
        raise DataError(
            f"holds no dry run of preset {preset} for {architecture.kind}, patch {tuple(patch_shape)}, batch"
            f" {batch_size}: its network, its recipe or a rule has changed",
            file=file,
            fix=f"Measure again: python benchmarks/write_references.py --preset {preset}",
            code="missing_point",
        )

    return recording(missing, points)
