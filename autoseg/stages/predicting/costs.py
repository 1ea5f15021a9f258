"""What a scan will take, from its header alone: passes through the networks, memory, and time at the device's pace."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from autoseg.images import regrid
from autoseg.images.home import SLAB_BYTES
from autoseg.images.regrid import Field
from autoseg.networks import sliding_window
from autoseg.networks.sweep import count_windows
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.stages.predicting.fields import Member, Options, setting_of, slab_memory_of
from autoseg.stages.predicting.streaming import Computed
from autoseg.stages.predicting.windows import window_bytes

# The scan as it was read, and its part on the way to the network.
COPIES_OF_A_SCAN = 2


@dataclass(frozen=True)
class Cost:
    """What one scan takes; costs of stages that follow one another add up.

    Attributes:
        passes: Of a patch through a network, one number a member: windows times flips times folds.
        memory_bytes: At the worst moment, beside the program itself.
        tiles: Into which the scan is cut so that its logits fit the memory.
    """

    passes: tuple[int, ...]
    memory_bytes: float
    tiles: int

    def seconds(self, pace: Sequence[float]) -> float:
        """Return the time at a pace (seconds a pass, one a member)."""
        return sum(count * each for count, each in zip(self.passes, pace, strict=True))

    def __add__(self, later: Cost) -> Cost:
        """Return the cost of both, one after the other."""
        memory_bytes = max(self.memory_bytes, later.memory_bytes)
        return Cost((*self.passes, *later.passes), memory_bytes, max(self.tiles, later.tiles))


def expected_cost(grid: Grid, members: Sequence[Member], options: Options) -> Cost:
    """Return what a scan on this grid takes; less where its rim is empty, for that is cut off.

    Args:
        grid: As the scan's header tells.
        members: Who predicts.
        options: How.
    """
    fields = [_unread(grid, member, options) for member in members]
    allowed = slab_memory_of(fields, members, options)
    passes = [0] * len(members)
    for number, axis, part in regrid.readings(fields, allowed):
        source = fields[number].array
        flips = len(source.setting.flips) * len(source.setting.networks)
        passes[number] += flips * count_windows(source.shape[1:], source.setting, axis, part)
    return Cost(tuple(passes), _memory(grid, fields, members, options, allowed), regrid.tile_count(fields, allowed))


def measure_pace(members: Sequence[Member], options: Options) -> tuple[float, ...]:
    """Return the seconds that one pass of a patch takes in each member, from one pass of zeros."""
    found: dict[tuple[str, Shape], float] = {}
    keys = [(item.configuration.architecture.model_dump_json(), item.configuration.patch_shape) for item in members]
    for key, member in zip(keys, members, strict=True):
        if key not in found:
            found[key] = _time_pass(member, options)
    return tuple(found[key] for key in keys)


def _time_pass(member: Member, options: Options) -> float:
    setting = setting_of(replace(member, networks=member.networks[:1]), replace(options, mirror=False))
    image = torch.zeros((member.configuration.architecture.input_channels, *setting.patch))
    started = time.perf_counter()
    with contextlib.suppress(UserError):  # what a network makes of zeros is no matter here; of a scan it is said
        sliding_window.whole(setting, image)
    return time.perf_counter() - started


def _unread(grid: Grid, member: Member, options: Options) -> Field:
    """Return a member's field of a scan whose voxels are not there: shapes are all that is asked of it."""
    everything = Box(start=(0, 0, 0), stop=grid.shape)
    oriented = regrid.plan_passage(grid, everything, member.configuration).oriented
    passage = regrid.plan_passage(grid, Box(start=(0, 0, 0), stop=oriented.shape), member.configuration)
    channels = member.configuration.architecture.input_channels
    image = torch.empty((channels, *passage.network.shape), device="meta")
    classes = member.configuration.architecture.output_channels
    return Field(Computed(image, setting_of(member, options), classes, "cost"), passage, member.weight)


def _memory(grid: Grid, fields: Sequence[Field], members: Sequence[Member], options: Options, allowed: float) -> float:
    voxels = math.prod(grid.shape)
    channels = max(member.configuration.architecture.input_channels for member in members)
    inputs = sum(4 * field.array.image.numel() for field in fields)
    batches = (
        window_bytes(
            member.configuration,
            field.array.setting.window_batch,
            precision=options.precision,
            device=options.device,
        )
        for member, field in zip(members, fields, strict=True)
    )
    scan = COPIES_OF_A_SCAN * 4 * channels * voxels
    labels = 2 * voxels
    return scan + inputs + labels + max(batches) + regrid.bytes_held(fields, allowed) + SLAB_BYTES
