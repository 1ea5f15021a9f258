"""ResUNet++: a residual U-Net with squeeze-and-excitation, atrous pyramids and attention in its decoder; 2D and 3D.

Arguments: those of `staged`, and if wanted::

    {"rates": [6, 12, 18],          voxels between the taps of the pyramids' convolutions
     "reduction": 8}                channels that share one in squeeze-and-excitation
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.arguments import counts, number
from autoseg.networks.blocks import InstanceNorm, convolution, dilated, enlarge, initialise, pointwise
from autoseg.networks.staged import Arguments, StagedNetwork, headed, read
from autoseg.records.configuration import Architecture

OPTIONAL = ("rates", "reduction")
RATES = (6, 12, 18)
REDUCTION = 8


@dataclass(frozen=True)
class _Shape:
    """What all parts of one stage share."""

    kernel: tuple[int, ...]
    reduction: int


class SqueezeExcitation(nn.Module):
    """Weighs every channel by what all channels are on the mean.

    Source:
        Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, channels: int, *, reduction: int):
        super().__init__()
        between = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, between, bias=False)
        self.excite = nn.Linear(between, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, C, ...)."""
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(x.flatten(2).mean(2)))))
        return x * weight.to(x.dtype).view(*weight.shape, *[1] * (x.dim() - 2))


class ResidualUnit(nn.Module):
    """Norm, ReLU and convolution, twice, beside a 1x1 convolution; then squeeze-and-excitation."""

    def __init__(self, before: nn.Module, shape: _Shape, *, inputs: int, outputs: int, stride: Sequence[int]):
        super().__init__()
        dimensions, ones = len(shape.kernel), (1,) * len(shape.kernel)
        self.before = before
        self.conv1 = convolution(dimensions, inputs, outputs, kernel=shape.kernel, stride=stride, bias=False)
        self.norm = InstanceNorm(outputs, slope=0.0)
        self.conv2 = convolution(dimensions, outputs, outputs, kernel=shape.kernel, stride=ones)
        self.shortcut = nn.Sequential(
            convolution(dimensions, inputs, outputs, kernel=ones, stride=stride, bias=False), InstanceNorm(outputs)
        )
        self.weigh = SqueezeExcitation(outputs, reduction=shape.reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) of `size / stride` voxels an axis."""
        y = self.conv2(self.norm(self.conv1(self.before(x))))
        return self.weigh(y + self.shortcut(x))  # type: ignore[no-any-return]


class SummedPyramid(nn.Module):
    """The sum of one plain and several dilated convolutions, each normalised; then a 1x1 convolution.

    Source:
        Chen et al. 2017, arXiv:1706.05587, as Jha et al. sum it.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: Sequence[int], rates: Sequence[int]):
        super().__init__()
        dimensions, ones = len(kernel), (1,) * len(kernel)
        self.branches = nn.ModuleList(
            nn.Sequential(
                dilated(dimensions, inputs, outputs, kernel=kernel, stride=ones, rate=(rate,) * dimensions),
                InstanceNorm(outputs),
            )
            for rate in (1, *rates)
        )
        self.mix = pointwise(dimensions, outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) on the grid of `x`."""
        total = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        return self.mix(total)  # type: ignore[no-any-return]


class AttendedUp(nn.Module):
    """Weighs the coarser features by the skip, brings them up beside it, and runs the stage's units.

    The weights are no probabilities: as in the authors' code no sigmoid bounds them.
    """

    def __init__(self, shape: _Shape, *, below: int, skip: int, stride: Sequence[int], units: nn.Module):
        super().__init__()
        dimensions, ones = len(shape.kernel), (1,) * len(shape.kernel)

        def weigh(inputs: int) -> nn.Module:
            conv = convolution(dimensions, inputs, below, kernel=shape.kernel, stride=ones)
            return nn.Sequential(InstanceNorm(inputs, slope=0.0), conv)

        pool = nn.MaxPool3d if dimensions == 3 else nn.MaxPool2d
        self.from_skip = nn.Sequential(weigh(skip), pool(tuple(stride), tuple(stride)))
        self.from_below = weigh(below)
        self.agreement = weigh(below)
        self.units = units

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return (B, outputs, ...) on the grid of `skip`."""
        weight = self.agreement(self.from_skip(skip) + self.from_below(below))
        up = enlarge(weight * below, skip.shape[2:], mode="nearest")
        return self.units(torch.cat((up, skip), 1))  # type: ignore[no-any-return]


def build(architecture: Architecture) -> StagedNetwork:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a ResUNet++; the message names the key.

    Source:
        Jha et al. 2019, arXiv:1911.07067, widths and wiring of the authors' code: four stages of 16 to 128 features,
        the bridge twice as wide as the last; instance norm instead of batch norm.
    """
    arguments = read(architecture, optional=OPTIONAL)
    features, decoder = arguments.features, _decoder(architecture, arguments)
    bridge = SummedPyramid(features[-1], 2 * features[-1], kernel=arguments.kernels[-1], rates=_rates(architecture))
    encoder = [_encoder_stage(architecture, arguments, stage=stage) for stage in range(len(features))]
    encoder[-1] = nn.Sequential(encoder[-1], bridge)
    network = StagedNetwork(
        architecture,
        nn.Identity(),
        encoder=encoder,
        decoder=decoder,
        heads=[
            # The finest stage ends in a pyramid of the first stage's width, the others in their units.
            pointwise(architecture.dimensions, features[stage + 1 if stage else 0], architecture.output_channels)
            for stage in headed(architecture, arguments)
        ],
    )
    initialise(network)
    return network


def _rates(architecture: Architecture) -> tuple[int, ...]:
    return counts(architecture, "rates") if "rates" in architecture.arguments else RATES


def _shape(architecture: Architecture, arguments: Arguments, stage: int) -> _Shape:
    return _Shape(arguments.kernels[stage], number(architecture, "reduction", REDUCTION))


def _encoder_stage(architecture: Architecture, arguments: Arguments, *, stage: int) -> nn.Module:
    shape, outputs = _shape(architecture, arguments, stage), arguments.features[stage]
    inputs = arguments.features[stage - 1] if stage else architecture.input_channels
    # The image itself is not normalised again.
    before = InstanceNorm(inputs, slope=0.0) if stage else nn.Identity()
    first = ResidualUnit(before, shape, inputs=inputs, outputs=outputs, stride=arguments.strides[stage])
    return nn.Sequential(first, *_more(shape, outputs, arguments.blocks[stage] - 1))


def _decoder(architecture: Architecture, arguments: Arguments) -> list[nn.Module]:
    features, below = arguments.features, 2 * arguments.features[-1]
    stages: list[nn.Module] = []
    for stage, count in zip(range(len(features) - 2, -1, -1), arguments.decoder_blocks):
        shape, outputs = _shape(architecture, arguments, stage), features[stage + 1]
        inputs = below + features[stage]
        ones = (1,) * len(shape.kernel)
        first = ResidualUnit(InstanceNorm(inputs, slope=0.0), shape, inputs=inputs, outputs=outputs, stride=ones)
        units = [first, *_more(shape, outputs, count - 1)]
        if stage == 0:
            units.append(SummedPyramid(outputs, features[0], kernel=shape.kernel, rates=_rates(architecture)))
        stride = arguments.strides[stage + 1]
        stages.append(AttendedUp(shape, below=below, skip=features[stage], stride=stride, units=nn.Sequential(*units)))
        below = outputs
    return stages


def _more(shape: _Shape, width: int, count: int) -> list[nn.Module]:
    ones = (1,) * len(shape.kernel)
    return [
        ResidualUnit(InstanceNorm(width, slope=0.0), shape, inputs=width, outputs=width, stride=ones)
        for _ in range(count)
    ]
