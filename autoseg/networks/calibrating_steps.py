"""Measures whole training steps of small U-Nets, beside what they compute."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch

from autoseg.networks.catalog import build
from autoseg.networks.memory import training_step
from autoseg.networks.stopwatch import timed
from autoseg.networks.work import measure_work
from autoseg.records.calibration import Precision, StepWork
from autoseg.records.configuration import Architecture
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import Recipe

FORMATS = ("contiguous", "channels_last")
STEPS_OF_A_WHOLE = 6
_RECIPE = Recipe()


def _unet(dimensions: Literal[2, 3]) -> Architecture:
    return Architecture(
        kind="unet",
        dimensions=dimensions,
        input_channels=1,
        output_channels=3,
        arguments={
            "features": [16, 32, 64, 128],
            "strides": [[1] * dimensions, *([[2] * dimensions] * 3)],
            "kernels": [[3] * dimensions] * 4,
            "blocks": [2, 2, 2, 2],
            "decoder_blocks": [2, 2, 2],
        },
    )


WHOLES: dict[str, tuple[tuple[Literal[2, 3], tuple[int, int, int]], ...]] = {
    "cpu": ((2, (1, 64, 64)), (3, (16, 24, 16)), (3, (32, 48, 32))),
    "cuda": ((2, (1, 256, 256)), (3, (32, 32, 32)), (3, (96, 96, 96))),
}


def whole_steps(device: DeviceProfile, precision: Precision) -> Iterator[tuple[StepWork, dict[str, float]]]:
    """Yield what one step of a small U-Net computes, and the seconds that it takes in each memory format.

    In 2D and in 3D, of small patches and of larger ones: what operators timed by themselves do not show (modules,
    the backward pass' bookkeeping, memory that is not at hand) weighs more in small ones.
    """
    where = torch.device(device.kind)
    for dimensions, shape in WHOLES["cpu" if where.type == "cpu" else "cuda"]:
        architecture = _unet(dimensions)
        work = measure_work(architecture, _RECIPE, shape, 2, precision=precision, device_kind=device.kind)
        yield work, {name: _whole(architecture, shape, precision, name, where) for name in FORMATS}


def _whole(
    architecture: Architecture, shape: tuple[int, int, int], precision: Precision, name: str, where: torch.device
) -> float:
    lower = torch.channels_last if architecture.dimensions == 2 else torch.channels_last_3d
    layout = torch.contiguous_format if name == "contiguous" else lower
    network = build(architecture).to(where).to(memory_format=layout)  # type: ignore[call-overload]
    step = training_step(network, architecture=architecture, recipe=_RECIPE, precision=precision, device=where)
    image = torch.randn(2, 1, *shape, device=where)
    image = image.contiguous(memory_format=torch.contiguous_format if name == "contiguous" else torch.channels_last_3d)
    step(image)
    # Not the shortest: a run takes what its steps take on average.
    return statistics.median(timed(partial(step, image), where) for _ in range(STEPS_OF_A_WHOLE))
