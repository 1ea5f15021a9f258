"""What a training step costs: dry runs, remembered, and the closed form through two or four of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from autoseg.records.configuration import Architecture, MemoryEstimate
from autoseg.records.geometry import Shape
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import Recipe
from autoseg.stages.planning.reasons import gigabytes
from autoseg.stages.planning.topology import Topology

DRY_RUN_EDGE = 4  # voxels at the bottleneck
DRY_RUN_BATCHES = (2, 8)
# Tokens along each axis, by dimensions, of the dry runs of networks with attention: so many that activations, and not
# the many parameters with their optimiser, are what the peak holds. From 6 and 9 tokens a UNETR at 112x320x320 was
# taken to need 2.3 times what it does; dry runs of many tokens take no longer.
ATTENTION_EDGES = {2: (16, 24), 3: (16, 24)}


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
    measure = cost or _dry_run()
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


def _dry_run() -> Cost:
    # Imported here: planning with a given cost, and every other command, must not load torch.
    from autoseg.networks.memory import measure_step

    return measure_step


def precision_of(recipe: Recipe, device: DeviceProfile) -> str:
    """Return the precision that a step on `device` will have: the recipe's, or where it is `auto` the fast one."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.fast_bfloat16:
        return "bfloat16"
    return "float16" if device.kind == "cuda" else "float32"


@dataclass(frozen=True)
class StepLine:
    """Peak and operations of a step: a + d x n + batch x (b x n + c x n^2) for patches of n voxels.

    c and d are 0 for convolutional networks; attention compares every token of a patch with every other, and what is
    done sample by sample needs its room once.

    Attributes:
        fixed_bytes, voxel_bytes: a and b of the peak.
        fixed_flops, voxel_flops: The same of its operations.
        points: The dry runs: (z, y, x, batch, bytes).
        square_bytes, square_flops: c of the peak and of the operations.
        once_bytes: d of the peak.
    """

    fixed_bytes: float
    voxel_bytes: float
    fixed_flops: float
    voxel_flops: float
    points: tuple[tuple[int, int, int, int, int], ...]
    square_bytes: float = 0.0
    square_flops: float = 0.0
    once_bytes: float = 0.0

    def shared_bytes(self, voxels: int) -> float:
        """Return what a step holds whatever its batch."""
        return self.fixed_bytes + self.once_bytes * voxels

    def peak_bytes(self, voxels: int, batch: int) -> float:
        """Return the bytes that a step over `batch` patches of `voxels` each holds at its worst moment."""
        return self.shared_bytes(voxels) + batch * self._sample_bytes(voxels)

    def largest_batch(self, voxels: int, budget_bytes: float) -> int:
        """Return how many patches of `voxels` fit into `budget_bytes`."""
        return int(max(0.0, budget_bytes - self.shared_bytes(voxels)) // self._sample_bytes(voxels))

    def _sample_bytes(self, voxels: int) -> float:
        return self.voxel_bytes * voxels + self.square_bytes * voxels**2

    def curve(self) -> str:
        """Return the peak as people read it: what is there whatever the batch, and what each voxel adds."""
        told = f"{gigabytes(self.fixed_bytes)} and {self.voxel_bytes / 2**10:.3g} KB for each voxel of the batch"
        if self.once_bytes > 0:
            told += f", {self.once_bytes / 2**10:.3g} KB for each voxel of a patch"
        if self.square_bytes > 0:
            told += ", and more by the square of a patch's voxels"
        return f"{told} (from {len(self.points)} dry runs)"

    def flops(self, voxels: int, batch: int = 1) -> float:
        """Return the operations of a step over `batch` patches of `voxels` each."""
        return self.fixed_flops + batch * (self.voxel_flops * voxels + self.square_flops * voxels**2)


def measure_line(measure: StepMeter, architecture: Architecture, recipe: Recipe, topology: Topology) -> StepLine:
    """Return the cost of a topology from two dry runs, on a patch that depends on the topology alone."""
    return _measure_at(measure, architecture, recipe, dry_run_patch(topology, DRY_RUN_EDGE))


def _measure_at(measure: StepMeter, architecture: Architecture, recipe: Recipe, patch: tuple[int, ...]) -> StepLine:
    shape, voxels = as_shape(patch), math.prod(patch)
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


def measure_curve(
    measure: StepMeter, network: Callable[[Topology], Architecture], recipe: Recipe, topology: Topology
) -> StepLine:
    """Return the cost of a topology with attention from four dry runs: two batches of two patches.

    Args:
        measure: One step.
        network: The architecture of a topology; a network may hold the shape of its patch.
        recipe: Of the step.
        topology: Its patch plays no part.
    """
    edges = ATTENTION_EDGES[len(topology.patch)]
    near, far = (replace(topology, patch=dry_run_patch(topology, edge)) for edge in edges)
    small, large = (_measure_at(measure, network(at), recipe, at.patch) for at in (near, far))
    sizes = (near.voxels, far.voxels)
    linear, square = _through(sizes, (small.voxel_bytes, large.voxel_bytes))
    slope, curve = _through(sizes, (small.voxel_flops, large.voxel_flops))
    once = max(0.0, (large.fixed_bytes - small.fixed_bytes) / (far.voxels - near.voxels))
    return replace(
        small,
        fixed_bytes=max(0.0, small.fixed_bytes - once * near.voxels),
        once_bytes=once,
        voxel_bytes=max(1e-6, linear),
        square_bytes=square,
        voxel_flops=max(0.0, slope),
        square_flops=curve,
        points=(*small.points, *large.points),
    )


def _through(sizes: tuple[int, int], costs: tuple[float, float]) -> tuple[float, float]:
    """Return b and c of b + c n from the cost a voxel at two sizes; a cost that falls is taken as even, the higher."""
    square = (costs[1] - costs[0]) / (sizes[1] - sizes[0])
    if square <= 0:
        return max(costs), 0.0
    return costs[0] - square * sizes[0], square


def dry_run_patch(topology: Topology, edge: int) -> tuple[int, ...]:
    """Return the patch of a dry run: `edge` voxels along each axis of the coarsest feature map."""
    return tuple(edge * unit for unit in topology.divisor)


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
