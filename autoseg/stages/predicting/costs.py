"""What a scan will take, from its header alone: passes through the networks, memory, and time at the device's pace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from autoseg.images import regrid
from autoseg.images.fields import Field
from autoseg.images.slabs import LOGIT_SLABS, SLAB_BYTES
from autoseg.images.steadiness import SCALES, shapes_looked_at
from autoseg.images.tiles import bytes_held, readings, tile_count
from autoseg.networks.sweep import count_windows, sweep_axis
from autoseg.records.geometry import Box, Grid
from autoseg.stages.predicting.fields import Member, Options, headless, setting_of, slab_memory_of
from autoseg.stages.predicting.streaming import Computed
from autoseg.stages.predicting.windows import window_bytes

if TYPE_CHECKING:
    from autoseg.stages.predicting.pace import Pace

# What libraries set up with the first scan and keep: buffers of matrix products, kernels, modules.
LOADED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Cost:
    """What one scan takes; costs of stages that follow one another add up.

    Attributes:
        passes: Of a patch through a network, one number a member: windows times flips times folds, and with the doubt
            what looks at the scan again.
        voxels: Of the scan, once for each stage: each prepares it, and brings home what its networks say.
        memory_bytes: At the worst moment, beside the program itself.
        tiles: Into which the scan is cut so that its logits fit the memory.
        scan_bytes: Of it as it was read; so much is held besides where it is read ahead of its turn.
    """

    passes: tuple[int, ...]
    voxels: tuple[int, ...]
    memory_bytes: float
    tiles: int
    scan_bytes: int = 0

    def seconds(self, pace: Pace) -> float:
        """Return the time of computing at a pace; reading and writing go on beside it, but for the first and last."""
        counts, paces = (*self.passes, *self.voxels), (*pace.passes, *pace.voxels)
        return sum(count * each for count, each in zip(counts, paces, strict=True))

    def __add__(self, later: Cost) -> Cost:
        """Return the cost of both, one after the other."""
        memory_bytes = max(self.memory_bytes, later.memory_bytes)
        scan = max(self.scan_bytes, later.scan_bytes)
        passes, voxels = (*self.passes, *later.passes), (*self.voxels, *later.voxels)
        return Cost(passes, voxels, memory_bytes, max(self.tiles, later.tiles), scan)


def expected_cost(
    grid: Grid, members: Sequence[Member], options: Options, *, doubt: bool = False, steady: bool = False
) -> Cost:
    """Return what a scan on this grid takes; less where its rim is empty, for that is cut off.

    Args:
        grid: As the scan's header tells.
        members: Who predicts.
        options: How.
        doubt: Whether the doubt is told, too: then all logits are held at once, fold by fold.
        steady: Whether each network looks at the scan again to tell how steady it stays.
    """
    fields = [unread(grid, member, options) for member in members]
    allowed = math.inf if doubt else slab_memory_of(fields, members, options)
    passes = [0] * len(members)
    for number, axis, part in readings(fields, allowed):
        source = fields[number].array
        flips = len(source.setting.flips) * len(source.setting.networks)
        passes[number] += flips * count_windows(source.shape[1:], source.setting, axis, part)
    if steady:
        looks = (looks_again(field, member, options) for field, member in zip(fields, members, strict=True))
        passes = [one + more for one, more in zip(passes, looks, strict=True)]
    memory = _memory(grid, fields, members, options, allowed)
    if doubt:
        memory += _doubt_bytes(grid, fields, members, steady=steady)
    voxels = (math.prod(grid.shape),)
    return Cost(tuple(passes), voxels, memory, tile_count(fields, allowed), scan_bytes(grid, members))


def looks_again(field: Field, member: Member, options: Options) -> int:
    """Return the passes of `steadying.steadiness`, without computing any."""
    if member.configuration.regions is not None:
        return 0
    setting = setting_of(member, replace(options, mirror=False, step_fraction=1.0))
    shapes = shapes_looked_at(field.array.shape[1:])
    windows = sum(count_windows(shape, setting, sweep_axis(shape, setting.patch)) for shape in shapes)
    return windows * len(member.networks)


def unread(grid: Grid, member: Member, options: Options) -> Field:
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
    computing = scan + inputs + labels + windows + bytes_held(fields, allowed)
    return LOADED_BYTES + max(preparing, computing + (1 + LOGIT_SLABS) * SLAB_BYTES)


def _doubt_bytes(grid: Grid, fields: Sequence[Field], members: Sequence[Member], *, steady: bool) -> float:
    """Return what is held besides where the doubt is told: logits of every fold, and again divided by a temperature."""
    sizes = [4 * math.prod(field.array.shape) for field in fields]
    held = sum(size * len(member.networks) for size, member in zip(sizes, members, strict=True))
    # What one network says of the scan as it is; and of an enlarged one: logits, probabilities, what is between, and
    # once more for the gaps that freed arrays of other sizes leave.
    looking = (1 + 4 * max(SCALES) ** 3) * max(sizes) if steady else 0
    return held + max(held, looking, sum(sizes)) + 2 * 4 * math.prod(grid.shape)


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
