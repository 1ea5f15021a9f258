"""How fast a device predicts, from short trials: a pass through each network, and everything that is no network.

What is no network may take as long as the networks do: with a hundred structures the way home does.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from autoseg.images.fields import Field, Output
from autoseg.images.home import home, home_regions
from autoseg.networks.sweep import sweep
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.records.volumes import Image
from autoseg.stages import preprocessing
from autoseg.stages.predicting.costs import unread
from autoseg.stages.predicting.doubting import doubt_of
from autoseg.stages.predicting.fields import Member, Options, setting_of

# Along each axis; of more voxels the trial would tell nothing new.
TRIAL_EDGE = 48
# Of all logits together; a network's grid may be much finer than the scan's.
TRIAL_NUMBERS = 2**24
# A trial that is shorter is done again: what is set up with the first one is set up once.
SHORT_SECONDS = 3.0


@dataclass(frozen=True)
class Pace:
    """How long things take on a device.

    Attributes:
        passes: Seconds of one pass of a patch, one number a member.
        voxels: Seconds of a voxel of the scan for all else: preparing it, and the way home of what the networks say;
            one number a stage.
    """

    passes: tuple[float, ...]
    voxels: tuple[float, ...]

    def __add__(self, later: Pace) -> Pace:
        """Return the pace of both, as costs of stages add up."""
        return Pace((*self.passes, *later.passes), (*self.voxels, *later.voxels))


def measure_pace(
    members: Sequence[Member], options: Options, *, grid: Grid, output: Output, uncertainty: bool = False
) -> Pace:
    """Return the pace of members that predict together.

    Args:
        members: Each kind of network is timed once, with a pass of zeros, and another where that was short.
        options: How they predict.
        grid: Of a scan like those that will be predicted.
        output: What the logits are.
        uncertainty: Whether the doubt is told, too.
    """
    found: dict[tuple[str, Shape], float] = {}
    keys = [(item.configuration.architecture.model_dump_json(), item.configuration.patch_shape) for item in members]
    for key, member in zip(keys, members, strict=True):
        if key not in found:
            found[key] = _fastest(partial(_time_pass, member, options))
    rest = _time_rest(members, options, grid, output=output, uncertainty=uncertainty)
    return Pace(tuple(found[key] for key in keys), (rest,))


def block(grid: Grid, members: Sequence[Member], options: Options) -> tuple[Grid, list[Field]]:
    """Return a grid of the same voxels, but no more of them than a trial needs, and the members' fields of it, unread.

    Args:
        grid: Of a scan.
        members: Whose logits have to fit the trial.
        options: How they predict.
    """
    edge = TRIAL_EDGE
    while True:
        z, y, x = (min(size, edge) for size in grid.shape)
        small = grid.model_copy(update={"shape": (z, y, x)})
        fields = [unread(small, member, options) for member in members]
        if edge == 1 or sum(math.prod(field.array.shape) for field in fields) <= TRIAL_NUMBERS:
            return small, fields
        edge //= 2


def _fastest(trial: Callable[[], float]) -> float:
    seconds = trial()
    return min(seconds, trial()) if seconds < SHORT_SECONDS else seconds


def _time_pass(member: Member, options: Options) -> float:
    setting = setting_of(replace(member, networks=member.networks[:1]), replace(options, mirror=False))
    image = torch.zeros((member.configuration.architecture.input_channels, *setting.patch))
    # One column of it is kept: all logits of a patch may take more than the scan.
    column = Box(start=(0, 0, 0), stop=(setting.patch[0], 1, 1))
    started = time.perf_counter()
    with contextlib.suppress(UserError):  # what a network makes of zeros is no matter here; of a scan it is said
        sweep(setting, image, 0, column).read(0, 1)
    return time.perf_counter() - started


def _time_rest(members: Sequence[Member], options: Options, grid: Grid, *, output: Output, uncertainty: bool) -> float:
    """Return seconds a voxel, from a block of noise with logits of noise."""
    rng = np.random.default_rng(0)
    small, unread_fields = block(grid, members, options)
    channels = max(len(member.configuration.normalizations) for member in members)
    image = Image(1 + rng.random((channels, *small.shape), np.float32), small)
    fields = [_noise(field, rng) for field in unread_fields]
    seconds = _fastest(partial(_time_trial, image, members, fields, output, uncertainty))
    return seconds / math.prod(small.shape)


def _noise(field: Field, rng: np.random.Generator) -> Field:
    return replace(field, array=rng.standard_normal(field.array.shape, np.float32))


def _time_trial(
    image: Image, members: Sequence[Member], fields: Sequence[Field], output: Output, uncertainty: bool
) -> float:
    started = time.perf_counter()
    for configuration in {member.configuration.data_key: member.configuration for member in members}.values():
        preprocessing.prepare(image, None, configuration, case="trial")
    if uncertainty:
        folds = [[field] * len(member.networks) for member, field in zip(members, fields, strict=True)]
        doubt_of(folds, temperature=1.0, output=output)
    if output == "sigmoid":
        home_regions(fields)
    else:
        home(fields, output=output)
    return time.perf_counter() - started
