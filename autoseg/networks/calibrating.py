"""Measures in about a minute how fast a device does each kind of operation that a training step is made of."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from autoseg.networks import augmentation
from autoseg.networks.blocks import instance_norm
from autoseg.networks.catalog import build
from autoseg.networks.memory import training_step
from autoseg.networks.work import WorkCounter, measure_work
from autoseg.records.calibration import Calibration, Kind, Precision, Rate, StepWork
from autoseg.records.machine import DeviceProfile
from autoseg.records.plan import Architecture, Recipe

Format = Literal["contiguous", "channels_last"]
FORMATS: tuple[Format, ...] = ("contiguous", "channels_last")
SECONDS_EACH = 0.35
LEAST_RUNS = 2
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Voxels of the operands: what a feature map of a middle stage has, so that caches help as much as in training.
EDGES = {"cpu": {2: 192, 3: 32}, "cuda": {2: 512, 3: 96}}


STEPS_OF_A_WHOLE = 5
_RECIPE = Recipe()
_UNET = Architecture(
    kind="unet",
    dimensions=3,
    input_channels=1,
    output_channels=3,
    arguments={
        "features": [32, 64, 128, 256],
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        "kernels": [[3, 3, 3]] * 4,
        "blocks": [2, 2, 2, 2],
        "decoder_blocks": [2, 2, 2],
    },
)


@dataclass(frozen=True)
class Trial:
    """One operation to time.

    Attributes:
        kind, dimensions, width: As in Rate.
        operands: Shapes; the first is laid out in the format and is the one whose type counts.
        run: The operands -> the result.
        formats: Layouts that it is timed in; empty where layout plays no part.
    """

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    operands: tuple[tuple[int, ...], ...]
    run: Callable[..., Tensor]
    formats: tuple[Format, ...] = FORMATS


def calibrate(device: DeviceProfile, *, tell: Callable[[str, float], None] | None = None) -> Calibration:
    """Return the speeds of a device, measured on it.

    Args:
        device: Its kind says where; its threads are taken as they are set.
        tell: Called with what is timed and the fraction that is done.
    """
    where = torch.device(device.kind)
    trials = list(_trials(EDGES["cpu" if where.type == "cpu" else "cuda"]))
    rates: list[Rate] = []
    with torch.random.fork_rng(devices=[]):
        for number, trial in enumerate(trials):
            if tell is not None:
                tell(f"time {trial.kind}", number / (len(trials) + 1))
            rates += _rates(trial, precisions(device), where)
        rates += _making(where)
        call = _call_seconds(where)
    return Calibration(device=device, torch_version=torch.__version__, call_seconds=call, rates=tuple(rates))


def precisions(device: DeviceProfile) -> tuple[Precision, ...]:
    """Return the data types that training would try on a device."""
    if device.fast_bfloat16:
        return ("float32", "bfloat16")
    return ("float32", "float16") if device.kind == "cuda" else ("float32",)


def _trials(edges: dict[int, int]) -> Iterator[Trial]:
    for dimensions in (2, 3):
        edge = edges[dimensions]
        yield from _convolutions(2 if dimensions == 2 else 3, edge)
    yield Trial("matmul", 0, 0, ((2, 1024, 768), (768, 768)), torch.matmul, ())
    yield Trial("attention", 0, 0, ((2, 12, 512, 64),) * 3, F.scaled_dot_product_attention, ())
    norm_shape = (2, 32, *(edges[3],) * 3)
    yield Trial("norm", 0, 0, (norm_shape, (32,), (32,)), instance_norm)
    yield Trial("elementwise", 0, 0, ((2, 32, *(2 * edges[3],) * 3),), lambda x: F.leaky_relu(x, 0.01), ())


def _convolutions(dimensions: Literal[2, 3], edge: int) -> Iterator[Trial]:
    convolve = F.conv3d if dimensions == 3 else F.conv2d
    widen = F.conv_transpose3d if dimensions == 3 else F.conv_transpose2d

    def shapes(inputs: int, outputs: int, shrink: int, kernel: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (2, inputs, *(edge // shrink,) * dimensions), (outputs, inputs, *(kernel,) * dimensions)

    def same(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, padding=weight.shape[-1] // 2)

    for width, shrink in ((16, 1), (32, 1), (64, 2), (128, 4), (320, 8)):
        yield Trial("dense", dimensions, width, shapes(width, width, shrink, 3), same)
    yield Trial("thin", dimensions, 0, shapes(4, 16, 1, 3), same)
    for width, shrink in ((32, 1), (128, 4)):
        yield Trial("pointwise", dimensions, width, shapes(width, width, shrink, 1), same)
    for width, shrink in ((32, 2), (128, 8)):
        coarse, weight = shapes(2 * width, width, shrink, 2)
        yield Trial(
            "transposed",
            dimensions,
            width,
            (coarse, (2 * width, width, *weight[2:])),
            lambda x, w: widen(x, w, stride=2),
        )
    image, _ = shapes(32, 32, 1, 3)
    depthwise = (32, 1, *(3,) * dimensions)
    yield Trial("depthwise", dimensions, 0, (image, depthwise), lambda x, w: convolve(x, w, padding=1, groups=32))


def _rates(trial: Trial, wanted: Sequence[Precision], device: torch.device) -> Iterator[Rate]:
    for precision in wanted:
        for layout in trial.formats or ("",):
            operands = _operands(trial, precision, layout, device)
            counted = _operands(trial, precision, "contiguous", device)
            with WorkCounter() as counter:
                _both_ways(trial.run, counted)
            amount = sum(value for row, value in counter.amounts.items() if row[0] == trial.kind)
            seconds = _shortest(lambda operands=operands: _both_ways(trial.run, operands), device)  # type: ignore[misc]
            yield Rate(
                kind=trial.kind,
                dimensions=trial.dimensions,
                width=trial.width,
                precision=precision,
                memory_format=layout,  # type: ignore[arg-type]
                per_second=_three_digits(amount / seconds),
            )


def _operands(trial: Trial, precision: Precision, layout: str, device: torch.device) -> list[Tensor]:
    found = []
    for shape in trial.operands:
        tensor = torch.randn(shape, device=device)
        if layout == "channels_last" and len(shape) in (4, 5):
            tensor = tensor.to(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
        # A norm keeps its scale in float32, as autocast leaves it.
        found.append(tensor.to(DTYPES[precision] if len(shape) > 1 else torch.float32).requires_grad_())
    return found


def _both_ways(run: Callable[..., Tensor], operands: Sequence[Tensor]) -> None:
    result = run(*operands)
    torch.autograd.grad(result, operands, torch.ones_like(result))


def _making(device: torch.device) -> Iterator[Rate]:
    """Time what makes a batch: each change by itself, less the copy that every sample takes."""
    for dimensions, shape in ((2, (1, 192, 192)), (3, (32, 48, 48))):
        plain = augmentation.identity(1, in_plane=dimensions == 2)
        angles = (20.0, 0.0, 0.0) if dimensions == 2 else (20.0, 20.0, 20.0)
        draws: dict[Kind, augmentation.Draw] = {
            "place": replace(plain, angles_degrees=angles, scale=1.1),
            "blur": replace(plain, blur_sigma=(0.8,)),
            "low_resolution": replace(plain, low_resolution=(0.7,)),
            "intensity": replace(plain, gamma=(1.2,)),
        }
        bare = _shortest(lambda: _augment(plain, shape, device), device)  # noqa: B023
        for kind, draw in draws.items():
            seconds = _shortest(lambda: _augment(draw, shape, device), device) - bare  # noqa: B023
            yield Rate(
                kind=kind,
                dimensions=2 if dimensions == 2 else 3,
                width=0,
                precision="float32",
                memory_format="",
                per_second=_three_digits(math.prod(shape) / max(seconds, 0.05 * bare)),
            )


def _augment(draw: augmentation.Draw, shape: tuple[int, int, int], device: torch.device) -> None:
    source = augmentation.source_shape([draw], shape)
    image = torch.zeros(1, 1, *source, device=device)
    labels = torch.zeros(1, *source, dtype=torch.uint8, device=device)
    augmentation.apply([draw], image, labels, shape, classes=1)


def whole_step(device: DeviceProfile, precision: Precision) -> tuple[StepWork, dict[str, float]]:
    """Return what one step of a small U-Net computes, and the seconds that it takes in each memory format."""
    where = torch.device(device.kind)
    shape = (96, 96, 96) if where.type == "cuda" else (32, 48, 32)
    work = measure_work(_UNET, _RECIPE, shape, 2, precision=precision, device_kind=device.kind)
    found = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last_3d)):
        network = build(_UNET).to(where)
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        step = training_step(network, architecture=_UNET, recipe=_RECIPE, precision=precision, device=where)
        image = torch.randn(2, 1, *shape, device=where).contiguous(memory_format=layout)
        step(image)
        times = [_timed(partial(step, image), where) for _ in range(STEPS_OF_A_WHOLE)]
        found[name] = statistics.median(times)
    return work, found


def _timed(run: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _call_seconds(device: torch.device) -> float:
    x = torch.ones(8, device=device)

    def many() -> None:
        for _ in range(1000):
            torch.add(x, x)

    return _three_digits(_shortest(many, device) / 1000)


def _shortest(work: Callable[[], None], device: torch.device) -> float:
    """Return the shortest of several runs; a run that takes long is not repeated."""
    best, runs, deadline = math.inf, 0, time.perf_counter() + SECONDS_EACH
    while runs < LEAST_RUNS or time.perf_counter() < deadline:
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - begun
        if runs > 0 or seconds > SECONDS_EACH:  # the first run warms up
            best = min(best, seconds)
        runs += 1
        if seconds > SECONDS_EACH:
            break
    return best


def _three_digits(value: float) -> float:
    return float(f"{value:.2e}")
