"""What a training step costs: dry runs, remembered, and the straight line through two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from autoseg.records.geometry import Shape
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Architecture, MemoryEstimate, Recipe
from autoseg.stages.planning.topology import Topology

DRY_RUN_EDGE = 4  # voxels at the bottleneck
DRY_RUN_BATCHES = (2, 8)


class StepCost(Protocol):
    """What a dry run returns (`autoseg.networks.memory.StepCost`)."""

    @property
    def peak_bytes(self) -> int:
        """Bytes alive at the worst moment."""

    @property
    def parameters(self) -> int:
        """Trainable numbers."""

    @property
    def flops(self) -> float:
        """Floating-point operations of the step."""


Cost = Callable[..., StepCost]
"""`(architecture, recipe, patch_shape, batch_size, *, precision, device_kind) -> StepCost`"""

StepMeter = Callable[[Architecture, Recipe, Shape, int], StepCost]


def meter(cost: Cost | None, device: DeviceProfile) -> StepMeter:
    """Return a function that measures one step on `device`, each distinct step once.

    Args:
        cost: How to measure; None for the dry run of `autoseg.networks.memory`.
        device: Decides the precision of what is measured.
    """
    if cost is None:
        from autoseg.networks.memory import measure_step as cost
    measure: Cost = cost
    known: dict[tuple[str, str, Shape, int], StepCost] = {}

    def measured(architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int) -> StepCost:
        key = (architecture.digest(), recipe.digest(), patch_shape, batch_size)
        if key not in known:
            precision = precision_of(recipe, device)
            known[key] = measure(
                architecture, recipe, patch_shape, batch_size, precision=precision, device_kind=device.kind
            )
        return known[key]

    return measured


def precision_of(recipe: Recipe, device: DeviceProfile) -> str:
    """Return the precision that a step on `device` will have: the recipe's, or where it is `auto` the fast one."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.fast_bfloat16:
        return "bfloat16"
    return "float16" if device.kind == "cuda" else "float32"


@dataclass(frozen=True)
class StepLine:
    """Peak and operations of a step, linear in voxels x batch, which holds for convolutional networks.

    Attributes:
        fixed_bytes, voxel_bytes: Peak of a step of n voxels (patch x batch) is `fixed_bytes + voxel_bytes * n`.
        fixed_flops, voxel_flops: The same of its operations.
        points: The two dry runs: (z, y, x, batch, bytes).
    """

    fixed_bytes: float
    voxel_bytes: float
    fixed_flops: float
    voxel_flops: float
    points: tuple[tuple[int, int, int, int, int], ...]

    def largest_batch(self, voxels: int, budget_bytes: float) -> int:
        """Return how many patches of `voxels` fit into `budget_bytes`."""
        return int(max(0.0, budget_bytes - self.fixed_bytes) // (self.voxel_bytes * voxels))

    def flops(self, voxels: int) -> float:
        """Return the operations of a step over `voxels` (patch x batch)."""
        return self.fixed_flops + self.voxel_flops * voxels


def measure_line(measure: StepMeter, architecture: Architecture, recipe: Recipe, topology: Topology) -> StepLine:
    """Return the cost of a topology from two dry runs, on a patch that depends on the topology alone."""
    patch = tuple(DRY_RUN_EDGE * unit for unit in topology.divisor)
    voxels = Topology(patch, topology.strides, topology.kernels).voxels
    shape = as_shape(patch)
    small, large = (measure(architecture, recipe, shape, batch) for batch in DRY_RUN_BATCHES)
    first, second = (batch * voxels for batch in DRY_RUN_BATCHES)
    voxel_bytes = max(1e-6, (large.peak_bytes - small.peak_bytes) / (second - first))
    voxel_flops = max(0.0, (large.flops - small.flops) / (second - first))
    return StepLine(
        fixed_bytes=small.peak_bytes - voxel_bytes * first,
        voxel_bytes=voxel_bytes,
        fixed_flops=small.flops - voxel_flops * first,
        voxel_flops=voxel_flops,
        points=tuple(
            (*shape, batch, step.peak_bytes) for batch, step in zip(DRY_RUN_BATCHES, (small, large), strict=True)
        ),
    )


def estimate(line: StepLine, step: StepCost, patch_shape: Shape, batch_size: int) -> MemoryEstimate:
    """Return the record of a verified step and of the dry runs behind it."""
    return MemoryEstimate(
        peak_bytes=step.peak_bytes,
        parameters=step.parameters,
        step_flops=float(step.flops),
        points=(*line.points, (*patch_shape, batch_size, step.peak_bytes)),
    )


def as_shape(patch: tuple[int, ...]) -> Shape:
    """Return (y, x) as (1, y, x), and (z, y, x) as it is."""
    z, y, x = (1, *patch)[-3:]
    return (z, y, x)
