"""MedNeXt: depthwise convolutions between pointwise ones that widen and narrow again, in a residual U; 2D and 3D.

Arguments: those of `staged`, and if wanted::

    {"size": "S",                   or "B", "M", "L": published blocks and expansions, instead of `blocks`,
                                    `decoder_blocks` and `expansion`
     "kernel": 5,                   instead of every entry of `kernels` that is not 1
     "expansion": [2, 3, 4]}        of each stage, finest first, encoder and decoder alike; the last repeats; [2]
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.arguments import counts, number, wrong
from autoseg.networks.blocks import InstanceNorm, initialise, pointwise
from autoseg.networks.staged import Arguments, StagedNetwork, choice, headed, read
from autoseg.records.configuration import Architecture

_Layers = Mapping[int, Callable[..., nn.Module]]
_CONVOLUTIONS: _Layers = MappingProxyType({2: nn.Conv2d, 3: nn.Conv3d})
_TRANSPOSED: _Layers = MappingProxyType({2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d})

OPTIONAL = ("size", "kernel", "expansion")
# Table 1 of the paper: blocks and expansions of each stage, finest first; a decoder stage has its encoder stage's.
SIZES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "S": ((2,), (2,)),
        "B": ((2,), (2, 3, 4)),
        "M": ((3, 4), (2, 3, 4)),
        "L": ((3, 4, 8), (3, 4, 8)),
    }
)


class MedNeXtBlock(nn.Module):
    """A depthwise convolution, a norm, a widening, GELU and a narrowing, beside a shortcut.

    A transposed depthwise convolution yields one voxel too few for each that it adds between two; `front` planes of
    zeros come before the first, so that published weights give the published output.
    """

    def __init__(
        self,
        depthwise: nn.Module,
        shortcut: nn.Module,
        *,
        widths: tuple[int, int],
        expansion: int,
        front: Sequence[int],
    ):
        super().__init__()
        inputs, outputs = widths
        dimensions = len(front)
        self.depthwise = depthwise
        self.norm = InstanceNorm(inputs)
        self.widen = pointwise(dimensions, inputs, expansion * inputs)
        self.narrow = pointwise(dimensions, expansion * inputs, outputs)
        self.shortcut = shortcut
        self.padding = [size for planes in reversed(front) for size in (planes, 0)]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) on the grid that the depthwise convolution makes of that of `x`."""
        y = self.narrow(F.gelu(self.widen(self.norm(self.depthwise(x))))) + self.shortcut(x)
        return F.pad(y, self.padding) if any(self.padding) else y


class AddedBlocks(nn.Module):
    """Brings the coarser features up, adds the skip, and runs the stage's blocks."""

    def __init__(self, up: nn.Module, blocks: nn.Module):
        super().__init__()
        self.up = up
        self.blocks = blocks

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return the shape of `skip`."""
        return self.blocks(self.up(below) + skip)  # type: ignore[no-any-return]


def build(architecture: Architecture) -> StagedNetwork:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a MedNeXt; the message names the key.

    Source:
        Roy et al. 2023, arXiv:2303.09975; checked against monai. The bottleneck has no head, because the coarsest
        output of a network weighs nothing in the loss.
    """
    arguments, expansion = _sized(architecture)
    dimensions, features = architecture.dimensions, arguments.features
    network = StagedNetwork(
        architecture,
        pointwise(dimensions, architecture.input_channels, features[0]),
        encoder=[_encoder_stage(arguments, stage=stage, expansion=expansion) for stage in range(len(features))],
        decoder=[
            AddedBlocks(
                _up(arguments, stage=stage, expansion=expansion[stage]),
                nn.Sequential(*_plain(arguments, stage=stage, expansion=expansion[stage], count=count)),
            )
            for stage, count in zip(range(len(features) - 2, -1, -1), arguments.decoder_blocks)
        ],
        heads=[
            pointwise(dimensions, features[stage], architecture.output_channels)
            for stage in headed(architecture, arguments)
        ],
    )
    initialise(network)
    return network


def upkern(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network of small kernels as those of `network`, which differs in its kernels alone.

    Args:
        tensors: Name -> tensor, as in the `state_dict()` of the network of small kernels.
        network: Of larger kernels; not changed. `weights.load_into` takes the result and refuses what does not fit.

    Returns:
        Name -> tensor: depthwise kernels interpolated linearly along every axis, everything else, larger kernels too,
        as it was.

    Source:
        Roy et al. 2023, arXiv:2303.09975, section 2.3 (UpKern).
    """
    own = network.state_dict()
    return {name: _stretched(tensor, own[name]) if name in own else tensor for name, tensor in tensors.items()}


def _stretched(tensor: Tensor, like: Tensor) -> Tensor:
    if tensor.shape == like.shape or tensor.dim() < 4 or tensor.shape[:2] != like.shape[:2]:
        return tensor
    if len(tensor.shape) != len(like.shape) or any(a > b for a, b in zip(tensor.shape, like.shape)):
        return tensor
    mode = "trilinear" if tensor.dim() == 5 else "bilinear"
    return F.interpolate(tensor, size=like.shape[2:], mode=mode, align_corners=False)


def _sized(architecture: Architecture) -> tuple[Arguments, tuple[int, ...]]:
    """Return the arguments, `size` and `kernel` worked in, and the expansion of each stage."""
    arguments = read(architecture, optional=OPTIONAL)
    stages = len(arguments.features)
    expansion = counts(architecture, "expansion") if "expansion" in architecture.arguments else (2,)
    if "size" in architecture.arguments:
        blocks, expansion = SIZES[choice(architecture, "size", tuple(SIZES))]
        repeated = _repeated(blocks, stages)
        arguments = dataclasses.replace(arguments, blocks=repeated, decoder_blocks=repeated[-2::-1])
    if "kernel" in architecture.arguments:
        size = number(architecture, "kernel", 3)
        if size % 2 == 0:
            raise wrong(architecture, "kernel", f"is {size}, but a kernel's size is odd")
        kernels = tuple(tuple(1 if axis == 1 else size for axis in kernel) for kernel in arguments.kernels)
        arguments = dataclasses.replace(arguments, kernels=kernels)
    return arguments, _repeated(expansion, stages)


def _repeated(numbers: Sequence[int], length: int) -> tuple[int, ...]:
    return tuple(numbers[min(index, len(numbers) - 1)] for index in range(length))


def _encoder_stage(arguments: Arguments, *, stage: int, expansion: Sequence[int]) -> nn.Module:
    blocks = _plain(arguments, stage=stage, expansion=expansion[stage], count=arguments.blocks[stage])
    if stage > 0:
        blocks = [_down(arguments, stage=stage, expansion=expansion[stage]), *blocks]
    return nn.Sequential(*blocks)


def _plain(arguments: Arguments, *, stage: int, expansion: int, count: int) -> list[nn.Module]:
    width, kernel = arguments.features[stage], arguments.kernels[stage]
    still = (0,) * len(kernel)
    return [
        MedNeXtBlock(
            _depthwise(width, kernel=kernel, stride=(1,) * len(kernel)),
            nn.Identity(),
            widths=(width, width),
            expansion=expansion,
            front=still,
        )
        for _ in range(count)
    ]


def _down(arguments: Arguments, *, stage: int, expansion: int) -> nn.Module:
    before, after = arguments.features[stage - 1 : stage + 1]
    kernel, stride = arguments.kernels[stage], arguments.strides[stage]
    shortcut = _CONVOLUTIONS[len(kernel)](before, after, 1, stride)
    depthwise = _depthwise(before, kernel=kernel, stride=stride)
    return MedNeXtBlock(depthwise, shortcut, widths=(before, after), expansion=expansion, front=(0,) * len(kernel))


def _up(arguments: Arguments, *, stage: int, expansion: int) -> nn.Module:
    after, before = arguments.features[stage : stage + 2]
    kernel, stride = arguments.kernels[stage], arguments.strides[stage + 1]
    make = _TRANSPOSED[len(kernel)]
    depthwise = make(before, before, kernel, stride, _padding(kernel), groups=before)
    return MedNeXtBlock(
        depthwise,
        make(before, after, 1, stride),
        widths=(before, after),
        expansion=expansion,
        front=tuple(step - 1 for step in stride),
    )


def _depthwise(channels: int, *, kernel: Sequence[int], stride: Sequence[int]) -> nn.Module:
    make = _CONVOLUTIONS[len(kernel)]
    return make(channels, channels, tuple(kernel), tuple(stride), _padding(kernel), groups=channels)


def _padding(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(size // 2 for size in kernel)
