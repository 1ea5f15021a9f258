"""Measures in about a minute how fast a device does each kind of operation that a training step is made of."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from autoseg.networks.blocks import instance_norm
from autoseg.networks.calibrating_samples import sample_rates
from autoseg.networks.step import make_optimizer
from autoseg.networks.stopwatch import LONG_SECONDS, rate, shortest, three_digits
from autoseg.networks.work import WorkCounter
from autoseg.records.calibration import Calibration, Kind, Precision, Rate
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import Recipe

Format = Literal["contiguous", "channels_last"]
FORMATS: tuple[Format, ...] = ("contiguous", "channels_last")
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Voxels along an axis of the operands, by dimensions: from a patch's coarsest feature maps to its finest.
EDGES: dict[str, dict[int, tuple[int, ...]]] = {
    "cpu": {2: (8, 48, 192), 3: (4, 12, 36)},
    "cuda": {2: (16, 128, 512), 3: (8, 32, 96)},
}
# Channels that are convolved one by one, and how many times their images are smaller than the edges.
DEPTHWISE_WIDTHS = ((32, 1), (256, 4))
DEPTHWISE_KERNELS = (3, 5)
_RECIPE = Recipe()


@dataclass(frozen=True)
class Trial:
    """One operation to time.

    Attributes:
        kind, dimensions, width: As in Rate.
        operands: Shapes by size, the smallest first; the first of a size is laid out in the format and is the one
            whose type counts.
        run: The operands -> the result.
        formats: Layouts that it is timed in; empty where layout plays no part.
        taps: As in Rate.
    """

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    operands: tuple[tuple[tuple[int, ...], ...], ...]
    run: Callable[..., Tensor]
    formats: tuple[Format, ...] = FORMATS
    taps: int = 0


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
        rates += _updates(where)
        rates += sample_rates(where)
        call = _call_seconds(where)
    return Calibration(device=device, torch_version=torch.__version__, call_seconds=call, rates=tuple(rates))


def precisions(device: DeviceProfile) -> tuple[Precision, ...]:
    """Return the data types that training would try on a device."""
    if device.fast_bfloat16:
        return ("float32", "bfloat16")
    return ("float32", "float16") if device.kind == "cuda" else ("float32",)


def _trials(edges: Mapping[int, Sequence[int]]) -> Iterator[Trial]:
    yield from _convolutions(2, edges[2])
    yield from _convolutions(3, edges[3])
    rows = [edge**2 for edge in edges[2]]
    yield Trial("matmul", 0, 0, tuple(((1, count // 4, 768), (768, 768)) for count in rows), torch.matmul, ())
    tokens = (16, 128, 512)
    attention = tuple(((2, 12, count, 64),) * 3 for count in tokens)
    yield Trial("attention", 0, 0, attention, F.scaled_dot_product_attention, ())
    norms = tuple(((2, 32, *(edge,) * 3), (32,), (32,)) for edge in edges[3])
    yield Trial("norm", 0, 0, norms, instance_norm)
    flat = tuple(((2, 16, 2 * edge, edge, edge),) for edge in (2, *edges[3], 2 * edges[3][-1]))
    yield Trial("elementwise", 0, 0, flat, lambda x: F.leaky_relu(x, 0.01), ())
    yield Trial("copy", 0, 0, flat, torch.clone, ())
    yield Trial("exponential", 0, 0, flat, lambda x: torch.log_softmax(x, dim=1), ())
    yield Trial("index", 0, 0, flat, lambda x: x.gather(1, torch.zeros_like(x[:, :1], dtype=torch.int64)), ())


def _convolutions(dimensions: Literal[2, 3], edges: Sequence[int]) -> Iterator[Trial]:
    convolve = F.conv3d if dimensions == 3 else F.conv2d
    widen = F.conv_transpose3d if dimensions == 3 else F.conv_transpose2d

    def shapes(inputs: int, outputs: int, shrink: int, kernel: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        weight = (outputs, inputs, *(kernel,) * dimensions)
        sizes = dict.fromkeys(max(2, edge // shrink) for edge in edges)
        return tuple(((2, inputs, *(size,) * dimensions), weight) for size in sizes)

    def same(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, padding=weight.shape[-1] // 2)

    def doubled(x: Tensor, weight: Tensor) -> Tensor:
        return widen(x, weight, stride=2)

    for width, shrink in ((16, 1), (32, 1), (64, 2), (128, 4), (320, 8)):
        yield Trial("dense", dimensions, width, shapes(width, width, shrink, 3), same)
    yield Trial("thin", dimensions, 0, shapes(4, 16, 1, 3), same, taps=3**dimensions)
    yield Trial("thin", dimensions, 0, shapes(32, 3, 1, 1), same, taps=1)
    for width, shrink in ((32, 1), (128, 4)):
        yield Trial("pointwise", dimensions, width, shapes(width, 2 * width, shrink, 1), same)
    for width, shrink in ((32, 2), (128, 8)):
        sizes = tuple((image, (2 * width, width, *weight[2:])) for image, weight in shapes(2 * width, width, shrink, 2))
        yield Trial("transposed", dimensions, width, sizes, doubled, taps=2**dimensions)
        alone = tuple((image, (*weight[:2], *(1,) * dimensions)) for image, weight in sizes)
        yield Trial("transposed", dimensions, width, alone, doubled, taps=1)
    yield from _depthwise(dimensions, edges)


def _depthwise(dimensions: Literal[2, 3], edges: Sequence[int]) -> Iterator[Trial]:
    """Yield convolutions of one channel each: narrow on large images and wide on small ones, kernels of 3 and of 5.

    The smallest images show what being called costs, which is much the same for all of them: one kind has them.
    """
    convolve = F.conv3d if dimensions == 3 else F.conv2d
    widen = F.conv_transpose3d if dimensions == 3 else F.conv_transpose2d

    def same(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    def halved(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, padding=weight.shape[-1] // 2, stride=2, groups=len(weight))

    def doubled(x: Tensor, weight: Tensor) -> Tensor:
        return widen(x, weight, padding=weight.shape[-1] // 2, stride=2, groups=len(weight))

    runs: tuple[tuple[Kind, Callable[..., Tensor], int], ...] = (
        ("depthwise", same, 1),
        ("depthwise_strided", halved, 1),
        ("depthwise_transposed", doubled, 2),
    )
    for kind, run, coarser in runs:
        for width, shrink in DEPTHWISE_WIDTHS:
            for kernel in DEPTHWISE_KERNELS:
                weight = (width, 1, *(kernel,) * dimensions)
                first = 0 if (kind, kernel) == ("depthwise", DEPTHWISE_KERNELS[0]) else 1
                sizes = dict.fromkeys(max(2, edge // shrink // coarser) for edge in edges[first:])
                images = tuple(((2, width, *(size,) * dimensions), weight) for size in sizes)
                yield Trial(kind, dimensions, width, images, run, taps=kernel**dimensions)


def _rates(trial: Trial, wanted: Sequence[Precision], device: torch.device) -> Iterator[Rate]:
    for precision in wanted:
        for layout in trial.formats or ("",):
            points = []
            for shapes in trial.operands:
                points.append(_point(trial, shapes, precision, layout, device))
                if points[-1][1] > LONG_SECONDS:
                    break  # a larger one would take the whole minute; it is in proportion
            yield rate(
                trial.kind,
                trial.dimensions,
                trial.width,
                points,
                precision=precision,
                layout=layout,
                taps=trial.taps,
            )


def _point(
    trial: Trial, shapes: Sequence[tuple[int, ...]], precision: Precision, layout: str, device: torch.device
) -> tuple[float, float]:
    """Return the amount and the seconds of one call: forward and backward passes half each."""
    # Counted as a dry run counts: without doing it, and without a layout.
    with FakeTensorMode():
        counted = _operands(shapes, precision, "contiguous", device)
        gradient = torch.ones_like(trial.run(*counted).detach())
        with WorkCounter() as counter:
            _both_ways(trial.run, counted, gradient)
    amount = sum(value for (row, _), (_, value) in counter.amounts.items() if row[0] == trial.kind)
    operands = _operands(shapes, precision, layout, device)
    gradient = torch.ones_like(trial.run(*operands).detach())
    seconds = shortest(lambda: _both_ways(trial.run, operands, gradient), device)
    return amount / 2, seconds / 2


def _updates(device: torch.device) -> Iterator[Rate]:
    """Time the optimiser's update of weights of three sizes."""
    for count in (1, 10, 60):
        network = torch.nn.ParameterList(torch.zeros(64, 64, 3, 3, 3, device=device) for _ in range(count))
        optimizer = make_optimizer(network, _RECIPE)
        for item in network:
            item.grad = torch.zeros_like(item)
        optimizer.step()
        with WorkCounter() as counter:
            optimizer.step()
        rows = [value for (row, _), value in counter.amounts.items() if row[0] == "optimizer"]
        calls, amount = sum(row[0] for row in rows), sum(row[1] for row in rows)
        seconds = shortest(optimizer.step, device)
        yield rate("optimizer", 0, 0, [(amount / calls, seconds / calls)])


def _operands(
    shapes: Sequence[tuple[int, ...]], precision: Precision, layout: str, device: torch.device
) -> list[Tensor]:
    found = []
    for shape in shapes:
        tensor = torch.randn(shape, device=device)
        if layout == "channels_last" and len(shape) in (4, 5):
            tensor = tensor.to(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
        # A norm keeps its scale in float32, as autocast leaves it.
        found.append(tensor.to(DTYPES[precision] if len(shape) > 1 else torch.float32).requires_grad_())
    return found


def _both_ways(run: Callable[..., Tensor], operands: Sequence[Tensor], gradient: Tensor) -> None:
    torch.autograd.grad(run(*operands), operands, gradient)


def _call_seconds(device: torch.device) -> float:
    x = torch.ones(8, device=device)

    def many() -> None:
        for _ in range(1000):
            torch.add(x, x)

    return three_digits(shortest(many, device) / 1000)
