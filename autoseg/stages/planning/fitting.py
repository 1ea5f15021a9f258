"""The largest patch whose step fits the memory and the time, and then the largest batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from autoseg.records.configuration import Architecture, MemoryEstimate
from autoseg.records.errors import ResourceError
from autoseg.stages.planning import elements
from autoseg.stages.planning.costs import StepLine, as_shape, estimate, measure_curve, measure_line
from autoseg.stages.planning.reasons import gigabytes, words
from autoseg.stages.planning.topology import Topology
from autoseg.stages.planning.wanted import FLOOR, Fit, Machine, Wanted

LEAST_ELEMENT_BYTES = 2


def fit(wanted: Wanted, machine: Machine) -> Fit:
    """Return the largest patch, and for it the largest batch, whose measured step fits memory and time.

    Two or four dry runs a topology give memory and operations in closed form; one more verifies what was chosen, and
    where it does not hold, batch and then patch shrink on. Where the patch would see less than a quarter of the median
    image, or nothing fits, activations are recomputed rather than kept, as far as the quarter asks.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
    if wanted.planning.patch_shape is not None:
        return _fit_by_hand(wanted, machine)
    plain, tried = _search(wanted, machine, wanted.candidates())
    if not _asks_to_spare(wanted, plain.topology if plain else None):
        return plain if plain else _refuse(wanted, machine, tried)
    spared, tried_again = _search(replace(wanted, sparing=True), machine, _worth_sparing(wanted, plain))
    if spared is not None:
        return replace(spared, because_sparing=_why_sparing(wanted, plain))
    return plain if plain else _refuse(wanted, machine, tried_again)


def expected(wanted: Wanted, machine: Machine, *, sparing: bool = True) -> Topology:
    """Return the patch that `fit` would choose, by the closed form alone, without a dry run to verify it.

    Args:
        wanted: What is to be fitted.
        machine: What it must fit.
        sparing: Whether recomputing may win a larger patch; where nothing fits otherwise, it may anyway.

    Raises:
        ResourceError: Not even the smallest patch fits.
    """
    if wanted.planning.patch_shape is not None:
        return _by_hand(wanted)
    tried: list[Tried] = []
    plain = next(_rooms(wanted, machine, wanted.candidates(), tried), None)
    if plain is not None and not (sparing and _asks_to_spare(wanted, plain.topology)):
        return plain.topology
    if plain is None and not _asks_to_spare(wanted, None):
        return _refuse(wanted, machine, tried)
    candidates = _worth_sparing(wanted, plain)
    spared = next(_rooms(replace(wanted, sparing=True), machine, candidates, tried), None) or plain
    return spared.topology if spared else _refuse(wanted, machine, tried)


@dataclass(frozen=True)
class Tried:
    """A patch that was looked at, and what stands against it in words; empty where nothing does."""

    topology: Topology
    obstacle: str = ""


def _search(wanted: Wanted, machine: Machine, candidates: Iterable[Topology]) -> tuple[Fit | None, list[Tried]]:
    """Return the first candidate whose verified step fits, and all that were looked at."""
    tried: list[Tried] = []
    for room in _rooms(wanted, machine, candidates, tried):
        found = _verified(wanted, machine, room, tried)
        if found is not None:
            return found, tried
    return None, tried


def _rooms(wanted: Wanted, machine: Machine, candidates: Iterable[Topology], tried: list[Tried]) -> Iterator[_Room]:
    """Yield the patches that fit memory and time, largest first, noting in `tried` all that were looked at."""
    lines: Lines = {}
    for topology in candidates:
        outputs = _outputs_bytes(wanted, topology)
        if outputs > machine.budget_bytes:
            tried.append(Tried(topology, f"would take more than {gigabytes(outputs)}"))
            continue
        room = _room(wanted, machine, topology, lines)
        tried.append(Tried(topology, _obstacle(wanted, room)))
        if not tried[-1].obstacle:
            yield room


def _obstacle(wanted: Wanted, room: _Room) -> str:
    if room.batch < wanted.least_batch:
        return f"would take {gigabytes(room.line.peak_bytes(room.topology.voxels, wanted.least_batch))}"
    return "" if room.quick_enough else "would take too much of a run's time"


def _asks_to_spare(wanted: Wanted, plain: Topology | None) -> bool:
    if wanted.planning.conformance is not None:
        return False
    return plain is None or plain.voxels < wanted.floor_voxels


def _worth_sparing(wanted: Wanted, plain: _Room | Fit | None) -> list[Topology]:
    """Return the candidates larger than what fits without, none larger than the quarter asks for.

    Recomputing buys no more than that: so more memory, which needs no recomputing, never plans a smaller patch.
    """
    everything = list(wanted.candidates())
    reaching = [topology.voxels for topology in everything if topology.voxels >= wanted.floor_voxels]
    most = min(reaching, default=math.inf)
    least = plain.topology.voxels if plain else 0
    return [topology for topology in everything if least < topology.voxels <= most]


def _why_sparing(wanted: Wanted, plain: Fit | None) -> str:
    if plain is None:
        return f"kept activations leave no room for a batch of {wanted.least_batch} of any patch"
    share = plain.topology.voxels / math.prod(wanted.median_shape)
    return (
        f"kept activations leave room for a patch of {words(plain.patch_shape)} only, {share:.0%} of the median image"
        f" (wanted {FLOOR:.0%}); recomputing them takes about a third more time a step"
    )


def _refuse(wanted: Wanted, machine: Machine, tried: list[Tried]) -> NoReturn:
    raise _nothing_fits(wanted, machine, tried[-1].topology)


def _nothing_fits(wanted: Wanted, machine: Machine, smallest: Topology) -> ResourceError:
    fix = "Give more time (--hours), or choose a smaller network (--preset)."
    memory_gb = machine.device.memory_for(_least_bytes(wanted, machine, smallest))
    if memory_gb > machine.device.memory_gb:
        fix = f"Give {memory_gb:g} GB or more (--memory-gb), or choose a smaller network (--preset)."
    return ResourceError(
        f"not even a patch of {words(as_shape(smallest.patch))} voxels with batch {wanted.least_batch} fits"
        f" the {gigabytes(machine.budget_bytes)} that one step may hold"
        + (f", in a step of {machine.clock.longest_step_seconds:.2g} seconds" if machine.clock else ""),
        fix=fix,
        code="does_not_fit",
    )


def _least_bytes(wanted: Wanted, machine: Machine, topology: Topology) -> float:
    """Return what a step of the least batch holds, activations recomputed where that is less."""
    kept = (False,) if wanted.planning.conformance is not None else (False, True)
    peaks = []
    for sparing in kept:
        architecture = replace(wanted, sparing=sparing).architecture(topology)
        step = machine.measure(architecture, wanted.recipe, as_shape(topology.patch), wanted.least_batch)
        peaks.append(step.peak_bytes)
    return min(peaks)


def _outputs_bytes(wanted: Wanted, topology: Topology) -> float:
    """Return the least that a step holds, by counting; 0 where counting says nothing."""
    if wanted.planning.conformance is not None or not wanted.kind.convolutional:
        return 0.0
    # Every convolution's output is kept for the backward pass in two bytes or more: no dry run needed to refuse it.
    architecture = wanted.architecture(topology)
    count = elements.kept(architecture, topology) if wanted.sparing else elements.elements(architecture, topology)
    return float(count * LEAST_ELEMENT_BYTES * wanted.least_batch)


@dataclass(frozen=True)
class _Room:
    topology: Topology
    architecture: Architecture
    line: StepLine
    batch: float
    quick_enough: bool


Lines = dict[object, StepLine]
"""What was measured of a network already, for one `Wanted`: many patches are of one network."""


def _line(wanted: Wanted, machine: Machine, topology: Topology, lines: Lines) -> StepLine:
    if wanted.kind.attention:
        found: object = (topology.strides, topology.kernels)
        if found not in lines:
            lines[found] = measure_curve(machine.measure, wanted.architecture, wanted.recipe, topology)
        return lines[found]
    architecture = wanted.architecture(topology)
    found = architecture.digest()
    if found not in lines:
        lines[found] = measure_line(machine.measure, architecture, wanted.recipe, topology)
    return lines[found]


def _room(wanted: Wanted, machine: Machine, topology: Topology, lines: Lines) -> _Room:
    architecture = wanted.architecture(topology)
    line = _line(wanted, machine, topology, lines)
    limits = wanted.planning.conformance
    if limits is not None:
        batch: float = elements.capacity(architecture, topology, limits=limits, memory_gb=machine.device.memory_gb)
    else:
        batch = line.largest_batch(topology.voxels, machine.budget_bytes)
    quick = True
    if machine.clock is not None:
        quick = machine.clock.allows(line.flops(topology.voxels, wanted.least_batch))
    return _Room(topology, architecture, line, batch, quick)


def _verified(wanted: Wanted, machine: Machine, room: _Room, tried: list[Tried]) -> Fit | None:
    batch, because = _batch(wanted, machine, room)
    shape = as_shape(room.topology.patch)
    size = batch
    while True:
        step = machine.measure(room.architecture, wanted.recipe, shape, size)
        if step.peak_bytes <= machine.budget_bytes or wanted.planning.conformance is not None:
            break
        if size <= wanted.least_batch:
            tried[-1] = replace(tried[-1], obstacle=f"would take {gigabytes(step.peak_bytes)}")
            return None
        # As many as fit if each takes what each took here.
        shared = room.line.shared_bytes(room.topology.voxels)
        each = max(1.0, (step.peak_bytes - shared) / size)
        fitting = int((machine.budget_bytes - shared) / each)
        size = max(wanted.least_batch, min(size - 1, fitting))
    if size < batch:
        because += f"; the dry run asked for fewer than {batch}"
    memory = estimate(room.line, step, shape, size)
    why = _why_patch(wanted, machine, tried, memory)
    return Fit(room.topology, room.architecture, size, memory, why, because, room.line.curve())


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
    if wanted.sparing:
        because = (
            "activations are recomputed for the sake of the patch, not of the batch: a larger device, which keeps them,"
            " begins with as many"
        )
        batch = wanted.least_batch
    if machine.clock is None:
        return batch, because
    return machine.clock.shorten(
        batch,
        because,
        step_flops=lambda size: room.line.flops(voxels, size),
        min_batch=planning.min_batch,
        dimensions=wanted.dimensions,
    )


def _why_patch(wanted: Wanted, machine: Machine, tried: list[Tried], memory: MemoryEstimate) -> str:
    first = words(as_shape(tried[0].topology.patch))
    median = words(tuple(round(size) for size in wanted.median_shape))
    step = f"a step takes {gigabytes(memory.peak_bytes)} of {gigabytes(machine.budget_bytes)}"
    if wanted.planning.conformance:
        step = "by nnU-Net's element counts"
    if len(tried) == 1:
        return f"the median image is {median}, and a patch that covers as much of it as the rule asks fits; {step}"
    steps = "one step" if len(tried) == 2 else f"{len(tried) - 1} steps"
    return f"shrunk from {first} in {steps} along the axis that covers most of the median {median}; {step}" + (
        "" if wanted.planning.conformance else f"; {_next_larger(tried[-2])}"
    )


def _next_larger(refused: Tried) -> str:
    return f"the next larger, {words(as_shape(refused.topology.patch))}, {refused.obstacle}"


def _fit_by_hand(wanted: Wanted, machine: Machine) -> Fit:
    topology = _by_hand(wanted)
    found = _measured_by_hand(wanted, machine, topology)
    if found.memory.peak_bytes <= machine.budget_bytes or wanted.planning.conformance is not None:
        return found
    spared = _measured_by_hand(replace(wanted, sparing=True), machine, topology)
    if spared.memory.peak_bytes <= machine.budget_bytes:
        why = f"kept activations of the patch set by hand would take {gigabytes(found.memory.peak_bytes)}"
        return replace(spared, because_sparing=why)
    return found


def _measured_by_hand(wanted: Wanted, machine: Machine, topology: Topology) -> Fit:
    room = _room(wanted, machine, topology, {})
    batch, because = _batch(wanted, machine, room)
    shape = as_shape(topology.patch)
    step = machine.measure(room.architecture, wanted.recipe, shape, batch)
    memory = estimate(room.line, step, shape, batch)
    why = f"set by hand in the preset, padded to what the network can divide; a step takes {gigabytes(step.peak_bytes)}"
    if step.peak_bytes > machine.budget_bytes:
        why += f", more than the {gigabytes(machine.budget_bytes)} that one step may hold"
    return Fit(topology, room.architecture, batch, memory, why, because, room.line.curve())


def _by_hand(wanted: Wanted) -> Topology:
    return wanted.shape((wanted.planning.patch_shape or ())[-wanted.dimensions :])
