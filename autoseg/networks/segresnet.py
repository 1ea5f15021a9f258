"""SegResNet: pre-activated residual blocks, a deep encoder, a shallow decoder and skips that are added; 2D and 3D.

Arguments: those of `staged`, and if wanted::

    {"norm": "instance",            or "group", as published
     "groups": 8,                   of the group norm
     "upsampling": "linear"}        as published, or "transposed"
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from autoseg.networks.arguments import number, wrong
from autoseg.networks.blocks import InstanceNorm, convolution, enlarge, initialise, pointwise, upsampling
from autoseg.networks.staged import Arguments, StagedNetwork, choice, headed, read
from autoseg.records.configuration import Architecture

OPTIONAL = ("norm", "groups", "upsampling")
PUBLISHED_GROUPS = 8

NormRelu = Callable[[int], nn.Module]


class PreactivatedBlock(nn.Module):
    """Norm, ReLU and convolution, twice, added to what came in.

    Source:
        He et al. 2016, arXiv:1603.05027.
    """

    def __init__(self, dimensions: int, channels: int, *, kernel: Sequence[int], norm: NormRelu):
        super().__init__()
        ones = (1,) * dimensions
        self.norm1 = norm(channels)
        self.norm2 = norm(channels)
        self.conv1 = convolution(dimensions, channels, channels, kernel=kernel, stride=ones, bias=False)
        self.conv2 = convolution(dimensions, channels, channels, kernel=kernel, stride=ones, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, C, ...)."""
        return x + self.conv2(self.norm2(self.conv1(self.norm1(x))))  # type: ignore[no-any-return]


class AddedUp(nn.Module):
    """Brings the coarser features to the skip's channels and grid, adds the skip, and runs the stage's blocks."""

    def __init__(self, narrow: nn.Module, up: nn.Module, blocks: nn.Module):
        super().__init__()
        self.narrow = narrow
        self.up = up
        self.blocks = blocks

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return the shape of `skip`."""
        # Interpolation after the 1x1 convolution is the same as before it, on half the channels.
        x = enlarge(self.up(self.narrow(below)), skip.shape[2:])
        return self.blocks(x + skip)  # type: ignore[no-any-return]


def build(architecture: Architecture) -> StagedNetwork:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a SegResNet; the message names the key.

    Source:
        Myronenko 2018, arXiv:1810.11654, without its auto-encoder branch; checked against monai.
    """
    arguments, norm = read(architecture, optional=OPTIONAL), _norm(architecture)
    up = choice(architecture, "upsampling", ("linear", "transposed"))
    dimensions, features = architecture.dimensions, arguments.features
    network = StagedNetwork(
        architecture,
        convolution(
            dimensions,
            architecture.input_channels,
            features[0],
            kernel=arguments.kernels[0],
            stride=(1,) * dimensions,
            bias=False,
        ),
        encoder=[_encoder_stage(dimensions, arguments, stage=stage, norm=norm) for stage in range(len(features))],
        decoder=[
            AddedUp(
                pointwise(dimensions, features[stage + 1], features[stage], bias=False),
                nn.Identity()
                if up == "linear"
                else upsampling(dimensions, features[stage], features[stage], stride=arguments.strides[stage + 1]),
                _blocks(dimensions, arguments, stage=stage, count=count, norm=norm),
            )
            for stage, count in zip(range(len(features) - 2, -1, -1), arguments.decoder_blocks)
        ],
        heads=[
            nn.Sequential(norm(features[stage]), pointwise(dimensions, features[stage], architecture.output_channels))
            for stage in headed(architecture, arguments)
        ],
    )
    initialise(network)
    return network


def _norm(architecture: Architecture) -> NormRelu:
    groups = number(architecture, "groups", PUBLISHED_GROUPS)
    if choice(architecture, "norm", ("instance", "group")) == "instance":
        return _instance_relu
    for width in read(architecture, optional=OPTIONAL).features:
        if width % groups:
            raise wrong(architecture, "groups", f"is {groups}, but {width} features are no multiple of it")
    return lambda channels: nn.Sequential(nn.GroupNorm(groups, channels), nn.ReLU(inplace=True))


def _instance_relu(channels: int) -> nn.Module:
    return InstanceNorm(channels, slope=0.0)


def _encoder_stage(dimensions: int, arguments: Arguments, *, stage: int, norm: NormRelu) -> nn.Module:
    blocks = _blocks(dimensions, arguments, stage=stage, count=arguments.blocks[stage], norm=norm)
    if stage == 0:
        return blocks
    before, after = arguments.features[stage - 1 : stage + 1]
    kernel, stride = arguments.kernels[stage], arguments.strides[stage]
    return nn.Sequential(convolution(dimensions, before, after, kernel=kernel, stride=stride, bias=False), blocks)


def _blocks(dimensions: int, arguments: Arguments, *, stage: int, count: int, norm: NormRelu) -> nn.Module:
    width, kernel = arguments.features[stage], arguments.kernels[stage]
    return nn.Sequential(*(PreactivatedBlock(dimensions, width, kernel=kernel, norm=norm) for _ in range(count)))
