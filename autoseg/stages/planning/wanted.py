"""What is to be fitted, what it must fit, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autoseg.records.configuration import Architecture, MemoryEstimate
from autoseg.records.geometry import Shape
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import PlanningPreset, Recipe
from autoseg.stages.planning.clock import Clock
from autoseg.stages.planning.costs import StepMeter, as_shape
from autoseg.stages.planning.networks import Family
from autoseg.stages.planning.topology import Numbers, Rule, Topology, shrinking

FLOOR = 0.25


@dataclass(frozen=True)
class Wanted:
    """What is to be fitted: one configuration before its patch is known.

    Attributes:
        spacing_mm: 2 or 3 numbers, network axes.
        median_shape: The same axes.
        dataset_voxels: Of all cases at this spacing.
        kind: What fits the network's kind.
        shape: How a size becomes a patch and a topology.
        planning: Of the preset, with `patch_shape` in network axes.
        recipe: Of the step that is measured.
        network: The architecture of a topology.
        sparing: Whether activations are recomputed in the backward pass (checkpointing) rather than kept.
    """

    spacing_mm: Numbers
    median_shape: Numbers
    dataset_voxels: float
    kind: Family
    shape: Rule
    planning: PlanningPreset
    recipe: Recipe
    network: Callable[[Topology], Architecture]
    sparing: bool = False

    @property
    def least_batch(self) -> int:
        """The patch shrinks until this batch fits."""
        return self.planning.batch_size or self.planning.min_batch

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.spacing_mm)

    @property
    def floor_voxels(self) -> float:
        """A patch below a quarter of the median image sees too little."""
        return FLOOR * math.prod(self.median_shape)

    def architecture(self, topology: Topology) -> Architecture:
        """Return the network of a topology, with checkpointing where it is on."""
        return self.network(topology).model_copy(update={"checkpointing": self.sparing})

    def candidates(self) -> Iterator[Topology]:
        """Yield the patches to try, largest first."""
        return shrinking(self.spacing_mm, self.median_shape, rule=self.shape)


@dataclass(frozen=True)
class Machine:
    """What a step must fit: the device's memory, and the time of a run where there is a budget.

    Attributes:
        device: Memory and speed.
        measure: Dry runs, remembered.
        clock: None where no budget is given.
    """

    device: DeviceProfile
    measure: StepMeter
    clock: Clock | None = None

    @property
    def budget_bytes(self) -> float:
        """What one step may hold."""
        return self.device.budget_bytes()


@dataclass(frozen=True)
class Fit:
    """A patch, a batch and the network for it, and why.

    Attributes:
        curve: How the memory of a step grows, in words.
        because_sparing: Empty where nothing is recomputed.
    """

    topology: Topology
    architecture: Architecture
    batch_size: int
    memory: MemoryEstimate
    because_patch: str
    because_batch: str
    curve: str
    because_sparing: str = ""

    @property
    def patch_shape(self) -> Shape:
        """(z, y, x), z = 1 in 2D."""
        return as_shape(self.topology.patch)
