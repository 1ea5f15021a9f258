"""What a scan will take, from its header alone: passes through the networks, memory, and time at the device's pace."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from autoseg.images import regrid
from autoseg.images.fields import Field
from autoseg.images.slabs import LOGIT_SLABS, SLAB_BYTES
from autoseg.networks.sweep import count_windows, sweep
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.stages.predicting.fields import Member, Options, headless, setting_of, slab_memory_of
from autoseg.stages.predicting.streaming import Computed
from autoseg.stages.predicting.windows import window_bytes

# What libraries set up with the first scan and keep: buffers of matrix products, kernels, modules.
LOADED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Cost:
    """What one scan takes; costs of stages that follow one another add up.

    Attributes:
        passes: Of a patch through a network, one number a member: windows times flips times folds.
        memory_bytes: At the worst moment, beside the program itself.
        tiles: Into which the scan is cut so that its logits fit the memory.
        scan_bytes: Of it as it was read; so much is held besides where it is read ahead of its turn.
    """

    passes: tuple[int, ...]
    memory_bytes: float
    tiles: int
    scan_bytes: int = 0

    def seconds(self, pace: Sequence[float]) -> float:
        """Return the time at a pace (seconds a pass, one a member)."""
        return sum(count * each for count, each in zip(self.passes, pace, strict=True))

    def __add__(self, later: Cost) -> Cost:
        """Return the cost of both, one after the other."""
        memory_bytes = max(self.memory_bytes, later.memory_bytes)
        scan = max(self.scan_bytes, later.scan_bytes)
        return Cost((*self.passes, *later.passes), memory_bytes, max(self.tiles, later.tiles), scan)


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
    memory = _memory(grid, fields, members, options, allowed)
    return Cost(tuple(passes), memory, regrid.tile_count(fields, allowed), scan_bytes(grid, members))


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
    # One column of it is kept: all logits of a patch may take more than the scan.
    column = Box(start=(0, 0, 0), stop=(setting.patch[0], 1, 1))
    started = time.perf_counter()
    with contextlib.suppress(UserError):  # what a network makes of zeros is no matter here; of a scan it is said
        sweep(setting, image, 0, column).read(0, 1)
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
    """Return what is held while the scan is prepared, or while it is computed, whichever is more."""
    scan = scan_bytes(grid, members)
    labels = label_bytes(fields[0].array.classes) * math.prod(grid.shape)
    inputs = sum(4 * field.array.image.numel() for field in fields)
    windows = max(_window_memory(member, field, options) for member, field in zip(members, fields, strict=True))
    preparing = scan + max(_resizing_bytes(member, field) for member, field in zip(members, fields, strict=True))
    computing = scan + inputs + labels + windows + regrid.bytes_held(fields, allowed)
    return LOADED_BYTES + max(preparing, computing + (1 + LOGIT_SLABS) * SLAB_BYTES)


def scan_bytes(grid: Grid, members: Sequence[Member]) -> int:
    """Return the bytes of a scan as it was read: float32."""
    channels = max(len(member.configuration.normalizations) for member in members)
    return 4 * channels * math.prod(grid.shape)


def label_bytes(classes: int) -> int:
    """Return the bytes of a voxel in a label map."""
    return 1 if classes <= 251 else 2


def _window_memory(member: Member, field: Field, options: Options) -> int:
    """Return what windows hold beside the networks, which are part of the program."""
    setting = field.array.setting
    network = sum(item.numel() * item.element_size() for item in member.networks[0].parameters())
    held = window_bytes(
        member.configuration,
        setting.window_batch,
        precision=options.precision,
        device=options.device,
        headless=headless(member),
    )
    return max(0, held - network)


def _resizing_bytes(member: Member, field: Field) -> int:
    """Return what the normalised scan and what it is resized to hold: axis by axis, the most shortened one first."""
    shape, wanted = list(field.passage.crop.shape), field.passage.network.shape
    most = math.prod(shape)
    for axis in sorted(range(3), key=lambda a: wanted[a] / shape[a]):
        if wanted[axis] != shape[axis]:
            before = math.prod(shape)
            shape[axis] = wanted[axis]
            most = max(most, before + math.prod(shape))
    return 4 * len(member.configuration.normalizations) * most
