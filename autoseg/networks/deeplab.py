"""DeepLab v3+: a residual encoder that ends in dilation, an atrous pyramid and a small decoder; 2D and 3D.

Arguments: those of `staged` (of `decoder_blocks` the last counts, because the decoder has one stage), and if wanted::

    {"output_stride": 16,           no axis becomes shorter than by this; later strides become dilation
     "rates": [6, 12, 18],          voxels between the taps of the pyramid's convolutions
     "width": 256,                  features of pyramid and decoder; 8 times the first stage's
     "low_level_width": 48}         features that the decoder takes of a finer stage; 1.5 times the first stage's
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.arguments import counts, number
from autoseg.networks.blocks import InstanceNorm, dilated, enlarge, initialise, pointwise
from autoseg.networks.staged import Arguments, read, run
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape

OPTIONAL = ("output_stride", "rates", "width", "low_level_width")
OUTPUT_STRIDE = 16
RATES = (6, 12, 18)
# In first-stage features; of 32 they make the published 256 and 48.
WIDTH = 8
LOW_LEVEL_WIDTH = 1.5
# The decoder takes in the encoder's stage of a quarter of the resolution.
LOW_LEVEL_STRIDE = 4


@dataclass(frozen=True)
class Step:
    """How far a stage shortens each axis, and how far apart its taps lie."""

    stride: tuple[int, ...]
    rate: tuple[int, ...]


class DilatedBlock(nn.Module):
    """Two convolutions beside a shortcut that, unlike pooling, takes axes of any length.

    Source:
        He et al. 2016, arXiv:1512.03385; Chen et al. 2017, arXiv:1706.05587 (dilated).
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: Sequence[int], step: Step):
        super().__init__()
        dimensions, ones = len(kernel), (1,) * len(kernel)
        self.conv1 = dilated(dimensions, inputs, outputs, kernel=kernel, stride=step.stride, rate=step.rate)
        self.norm1 = InstanceNorm(outputs, slope=0.0)
        self.conv2 = dilated(dimensions, outputs, outputs, kernel=kernel, stride=ones, rate=step.rate)
        self.norm2 = InstanceNorm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or max(step.stride) > 1:
            shortcut = dilated(dimensions, inputs, outputs, kernel=ones, stride=step.stride, rate=ones)
            self.shortcut = nn.Sequential(shortcut, InstanceNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) of `ceil(size / stride)` voxels an axis."""
        return F.relu_(self.norm2(self.conv2(self.norm1(self.conv1(x)))) + self.shortcut(x))


class Pyramid(nn.Module):
    """Convolutions of several rates and the mean of the whole field of view, side by side; then a 1x1 convolution.

    Source:
        Chen et al. 2017, arXiv:1706.05587.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: Sequence[int], rates: Sequence[int]):
        super().__init__()
        dimensions = len(kernel)
        self.branches = nn.ModuleList([_layer(inputs, outputs, kernel=(1,) * dimensions)])
        self.branches.extend(_layer(inputs, outputs, kernel=kernel, rate=rate) for rate in rates)
        # Of one voxel an instance norm would leave nothing.
        self.whole = pointwise(dimensions, inputs, outputs)
        self.mix = _layer((len(rates) + 2) * outputs, outputs, kernel=(1,) * dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) on the grid of `x`."""
        mean = x.mean(tuple(range(2, x.dim())), keepdim=True)
        parts = [branch(x) for branch in self.branches]
        whole = F.relu(self.whole(mean)).to(parts[0].dtype).expand_as(parts[0])
        return self.mix(torch.cat((*parts, whole), 1))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Joins the enlarged pyramid with finer features of the encoder, and makes logits of both."""

    def __init__(self, low_level: nn.Module, blocks: nn.Module, head: nn.Module):
        super().__init__()
        self.low_level = low_level
        self.blocks = blocks
        self.head = head

    def forward(self, below: Tensor, finer: Tensor) -> Tensor:
        """Return logits (B, K, ...) on the grid of `finer`."""
        both = torch.cat((enlarge(below, finer.shape[2:]), self.low_level(finer)), 1)
        return self.head(self.blocks(both))  # type: ignore[no-any-return]


class DeepLab(nn.Module):
    """DeepLab v3+ with instance norm.

    Source:
        Chen et al. 2018, arXiv:1802.02611, with a residual encoder of plain blocks that begins at full resolution.
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        features, kernels, steps = arguments.features, arguments.kernels, _steps(architecture, arguments)
        width, _ = _widths(architecture, arguments)
        rates = counts(architecture, "rates") if "rates" in architecture.arguments else RATES
        self.low_level = _low_level(steps)
        self.stem = _layer(architecture.input_channels, features[0], kernel=kernels[0])
        self.encoder = nn.ModuleList(
            _encoder_stage(arguments, stage=stage, step=step) for stage, step in enumerate(steps)
        )
        self.pyramid = Pyramid(features[-1], width, kernel=kernels[-1], rates=rates)
        self.decoder = _decoder(architecture, arguments, stage=self.low_level)
        initialise(self)
        for module in self.modules():
            if isinstance(module, DilatedBlock):
                nn.init.zeros_(module.norm2.weight)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; axes of any length from `min_shape` on.

        Returns:
            (B, K, ...) on the grid of `x`; in training with deep supervision a list of that one, because the decoder
            has one stage.
        """
        checkpointing, size = self.checkpointing and self.training, x.shape[2:]
        x = finer = self.stem(x)
        for index, stage in enumerate(self.encoder):
            x = run(stage, x, checkpointing=checkpointing)
            finer = x if index == self.low_level else finer
        x = run(self.pyramid, x, checkpointing=checkpointing)
        logits = enlarge(run(self.decoder, x, finer, checkpointing=checkpointing), size)
        return [logits] if self.training and self.deep_supervision else logits


def build(architecture: Architecture) -> DeepLab:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a DeepLab; the message names the key.
    """
    return DeepLab(architecture, read(architecture, optional=OPTIONAL))


def divisor(architecture: Architecture) -> Shape:
    """Return (1, 1, 1): axes of any length pass.

    Raises:
        UsageError: The arguments do not describe a DeepLab.
    """
    read(architecture, optional=OPTIONAL)
    return 1, 1, 1


def min_shape(architecture: Architecture) -> Shape:
    """Return the smallest patch (z, y, x): two voxels where it is coarsest, because a norm over one leaves nothing.

    Raises:
        UsageError: The arguments do not describe a DeepLab.
    """
    steps = _steps(architecture, read(architecture, optional=OPTIONAL))
    shortened = [math.prod(sizes) for sizes in zip(*(step.stride for step in steps))]
    z, y, x = (1, *(1 if size == 1 else size + 1 for size in shortened))[-3:]
    return z, y, x


def _steps(architecture: Architecture, arguments: Arguments) -> list[Step]:
    """Return stride and rate of each stage: past the output stride, an axis is dilated instead of shortened."""
    most = number(architecture, "output_stride", OUTPUT_STRIDE)
    shortened, rate = [1] * architecture.dimensions, [1] * architecture.dimensions
    steps = []
    for wanted in arguments.strides:
        stride = [step if size * step <= most else 1 for step, size in zip(wanted, shortened)]
        rate = [before * step // kept for before, step, kept in zip(rate, wanted, stride)]
        shortened = [size * step for size, step in zip(shortened, stride)]
        steps.append(Step(tuple(stride), tuple(rate)))
    return steps


def _low_level(steps: Sequence[Step]) -> int:
    """Return the stage that the decoder takes in: the first of a quarter of the resolution, never the last."""
    shortened = [1] * len(steps[0].stride)
    for stage, step in enumerate(steps[:-1]):
        shortened = [size * factor for size, factor in zip(shortened, step.stride)]
        if max(shortened) >= LOW_LEVEL_STRIDE:
            return stage
    return len(steps) - 2


def _widths(architecture: Architecture, arguments: Arguments) -> tuple[int, int]:
    """Return the features of pyramid and decoder, and those that the decoder takes of the encoder's finer stage."""
    first = arguments.features[0]
    low = number(architecture, "low_level_width", max(1, int(LOW_LEVEL_WIDTH * first)))
    return number(architecture, "width", WIDTH * first), low


def _encoder_stage(arguments: Arguments, *, stage: int, step: Step) -> nn.Module:
    outputs, kernel = arguments.features[stage], arguments.kernels[stage]
    still = Step((1,) * len(kernel), step.rate)
    first = DilatedBlock(arguments.features[max(0, stage - 1)], outputs, kernel=kernel, step=step)
    more = (DilatedBlock(outputs, outputs, kernel=kernel, step=still) for _ in range(arguments.blocks[stage] - 1))
    return nn.Sequential(first, *more)


def _decoder(architecture: Architecture, arguments: Arguments, *, stage: int) -> Decoder:
    width, low = _widths(architecture, arguments)
    kernel, count = arguments.kernels[stage], arguments.decoder_blocks[-1]
    inputs = (width + low, *[width] * (count - 1))
    return Decoder(
        _layer(arguments.features[stage], low, kernel=(1,) * len(kernel)),
        nn.Sequential(*(_layer(before, width, kernel=kernel) for before in inputs)),
        pointwise(architecture.dimensions, width, architecture.output_channels),
    )


def _layer(inputs: int, outputs: int, *, kernel: Sequence[int], rate: int = 1) -> nn.Module:
    dimensions, ones = len(kernel), (1,) * len(kernel)
    conv = dilated(dimensions, inputs, outputs, kernel=kernel, stride=ones, rate=(rate,) * dimensions)
    return nn.Sequential(conv, InstanceNorm(outputs, slope=0.0))
