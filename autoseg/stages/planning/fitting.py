"""The largest patch whose step fits the memory and the time, and then the largest batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autoseg.records.errors import ResourceError
from autoseg.records.geometry import Shape
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Architecture, MemoryEstimate, PlanningPreset, Recipe
from autoseg.stages.planning import elements
from autoseg.stages.planning.clock import Clock
from autoseg.stages.planning.costs import StepLine, StepMeter, as_shape, estimate, measure_line
from autoseg.stages.planning.reasons import gigabytes, words
from autoseg.stages.planning.topology import Numbers, Topology, design, shrinking

LEAST_ELEMENT_BYTES = 2


@dataclass(frozen=True)
class Wanted:
    """What is to be fitted: one configuration before its patch is known.

    Attributes:
        spacing_mm: 2 or 3 numbers, network axes.
        median_shape: The same axes.
        dataset_voxels: Of all cases at this spacing.
        max_stages: Of the preset.
        planning: Of the preset, with `patch_shape` in network axes.
        recipe: Of the step that is measured.
        network: The architecture of a topology.
    """

    spacing_mm: Numbers
    median_shape: Numbers
    dataset_voxels: float
    max_stages: int
    planning: PlanningPreset
    recipe: Recipe
    network: Callable[[Topology], Architecture]

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.spacing_mm)


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
    """A patch, a batch and the network for it; `because_patch` and `because_batch` say why."""

    topology: Topology
    architecture: Architecture
    batch_size: int
    memory: MemoryEstimate
    because_patch: str
    because_batch: str

    @property
    def patch_shape(self) -> Shape:
        """(z, y, x), z = 1 in 2D."""
        return as_shape(self.topology.patch)


def fit(wanted: Wanted, machine: Machine) -> Fit:
    """Return the largest patch, and for it the largest batch, whose measured step fits memory and time.

    Two dry runs a topology give memory and operations as straight lines; a third verifies what was chosen, and where
    it does not hold, batch and then patch shrink on.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
    if wanted.planning.patch_shape is not None:
        return _fit_by_hand(wanted, machine)
    tried: list[Topology] = []
    for room in _rooms(wanted, machine, tried):
        found = _verified(wanted, machine, room, tried)
        if found is not None:
            return found
    raise _nothing_fits(wanted, machine, tried)


def expected(wanted: Wanted, machine: Machine) -> Topology:
    """Return the patch that `fit` would choose, by the straight lines alone, without a dry run to verify it.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
    if wanted.planning.patch_shape is not None:
        return _by_hand(wanted)
    tried: list[Topology] = []
    for room in _rooms(wanted, machine, tried):
        return room.topology
    raise _nothing_fits(wanted, machine, tried)


def _rooms(wanted: Wanted, machine: Machine, tried: list[Topology]) -> Iterator[_Room]:
    """Yield the patches that fit memory and time, largest first, noting in `tried` all that were looked at."""
    for topology in shrinking(wanted.spacing_mm, wanted.median_shape, max_stages=wanted.max_stages):
        tried.append(topology)
        if _hopeless(wanted, machine, topology):
            continue
        room = _room(wanted, machine, topology)
        if room.batch >= wanted.planning.min_batch and room.quick_enough:
            yield room


def _nothing_fits(wanted: Wanted, machine: Machine, tried: list[Topology]) -> ResourceError:
    return ResourceError(
        f"not even a patch of {words(as_shape(tried[-1].patch))} voxels with batch {wanted.planning.min_batch} fits"
        f" the {gigabytes(machine.budget_bytes)} that one step may hold"
        + (f", in a step of {machine.clock.longest_step_seconds:.2g} seconds" if machine.clock else ""),
        fix="Give more memory (--memory-gb) or time, or choose a smaller network (--preset).",
        code="does_not_fit",
    )


def _hopeless(wanted: Wanted, machine: Machine, topology: Topology) -> bool:
    if wanted.planning.conformance is not None:
        return False
    # Every convolution's output is kept for the backward pass in two bytes or more: no dry run needed to refuse it.
    count = elements.elements(wanted.network(topology), topology)
    return count * LEAST_ELEMENT_BYTES * wanted.planning.min_batch > machine.budget_bytes


@dataclass(frozen=True)
class _Room:
    topology: Topology
    architecture: Architecture
    line: StepLine
    batch: float
    quick_enough: bool


def _room(wanted: Wanted, machine: Machine, topology: Topology) -> _Room:
    architecture = wanted.network(topology)
    line = measure_line(machine.measure, architecture, wanted.recipe, topology)
    limits = wanted.planning.conformance
    if limits is not None:
        batch: float = elements.capacity(architecture, topology, limits=limits, memory_gb=machine.device.memory_gb)
    else:
        batch = line.largest_batch(topology.voxels, machine.budget_bytes)
    quick = True
    if machine.clock is not None:
        quick = machine.clock.allows(line.flops(topology.voxels * wanted.planning.min_batch))
    return _Room(topology, architecture, line, batch, quick)


def _verified(wanted: Wanted, machine: Machine, room: _Room, tried: list[Topology]) -> Fit | None:
    batch, because = _batch(wanted, machine, room)
    shape = as_shape(room.topology.patch)
    for size in _shrinking_batches(batch, wanted.planning.min_batch):
        step = machine.measure(room.architecture, wanted.recipe, shape, size)
        fits = step.peak_bytes <= machine.budget_bytes or wanted.planning.conformance is not None
        if fits:
            if size < batch:
                because += f"; the dry run asked for fewer than {batch}"
            memory = estimate(room.line, step, shape, size)
            why = _why_patch(wanted, machine, tried, memory)
            return Fit(room.topology, room.architecture, size, memory, why, because)
    return None


def _shrinking_batches(batch: int, least: int) -> Iterator[int]:
    while batch > least:
        yield batch
        batch = max(least, min(batch - 1, math.floor(batch * 0.95)))
    yield batch


def _batch(wanted: Wanted, machine: Machine, room: _Room) -> tuple[int, str]:
    planning, voxels = wanted.planning, room.topology.voxels
    if planning.batch_size is not None:
        return planning.batch_size, "set by hand in the preset"
    share = max(planning.min_batch, round(wanted.dataset_voxels * planning.voxel_fraction / voxels))
    what = "conforming element counts allow" if planning.conformance else "fit the memory"
    limits = [
        (int(room.batch), f"{int(room.batch)} {what}"),
        (share, f"more than {share} would hold over {planning.voxel_fraction:.0%} of the data set's voxels"),
        (planning.max_batch, f"the preset allows at most {planning.max_batch}"),
    ]
    batch, because = min(limits, key=lambda limit: limit[0])
    batch = max(batch, planning.min_batch)
    if machine.clock is None:
        return batch, because
    return machine.clock.shorten(
        batch,
        because,
        step_flops=lambda size: room.line.flops(voxels * size),
        min_batch=planning.min_batch,
        dimensions=wanted.dimensions,
    )


def _why_patch(wanted: Wanted, machine: Machine, tried: list[Topology], memory: MemoryEstimate) -> str:
    first = words(as_shape(tried[0].patch))
    median = words(tuple(round(size) for size in wanted.median_shape))
    step = f"a step takes {gigabytes(memory.peak_bytes)} of {gigabytes(machine.budget_bytes)}"
    if wanted.planning.conformance:
        step = "by nnU-Net's element counts"
    if len(tried) == 1:
        return f"the median image is {median}, and a patch that covers as much of it as the rule asks fits; {step}"
    return (
        f"shrunk from {first} in {len(tried) - 1} steps along the axis that covers most of the median {median}; {step}"
    )


def _fit_by_hand(wanted: Wanted, machine: Machine) -> Fit:
    topology = _by_hand(wanted)
    room = _room(wanted, machine, topology)
    batch, because = _batch(wanted, machine, room)
    shape = as_shape(topology.patch)
    step = machine.measure(room.architecture, wanted.recipe, shape, batch)
    memory = estimate(room.line, step, shape, batch)
    why = f"set by hand in the preset, padded to what the network can halve; a step takes {gigabytes(step.peak_bytes)}"
    if step.peak_bytes > machine.budget_bytes:
        why += f", more than the {gigabytes(machine.budget_bytes)} that one step may hold"
    return Fit(topology, room.architecture, batch, memory, why, because)


def _by_hand(wanted: Wanted) -> Topology:
    size = (wanted.planning.patch_shape or ())[-wanted.dimensions :]
    return design(wanted.spacing_mm, size, max_stages=wanted.max_stages)
