"""A vision transformer for slices: each is brought to one size, cut into tokens, and decoded by doubling steps.

Arguments (plain JSON)::

    {"resize_shape": [224, 224],   voxels [y, x] to which every slice is resized inside the network
     "patch": [16, 16],            voxels of a token, powers of two
     "width": 512,                 channels of a token
     "depth": 8,                   transformer layers
     "heads": 8}                   of attention, a divisor of `width`
"""

# B batch, C channel, K class, N token, Y X voxel

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.arguments import axes, check_keys, number, wrong
from autoseg.networks.blocks import ConvNormAct, initialise, pointwise
from autoseg.networks.kinds import of_tokens
from autoseg.networks.transformer import (
    Attention,
    Block,
    Mlp,
    Positions,
    check_heads,
    check_patch,
    halvings,
    initialise_tokens,
    patch_embedding,
    run,
    supervised,
    to_grid,
    to_sequence,
)
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError

MLP_RATIO = 4
FEWEST_FEATURES = 16


@dataclass(frozen=True)
class Arguments:
    """The arguments of a slice transformer, see the module."""

    resize_shape: tuple[int, ...]
    patch: tuple[int, ...]
    width: int
    depth: int
    heads: int


class Doubling(nn.Module):
    """Linear interpolation to `stride` times the size, then a convolution with norm and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: Sequence[int]):
        super().__init__()
        self.stride = tuple(float(step) for step in stride)
        self.convolution = ConvNormAct(2, inputs, outputs=outputs, kernel=(3, 3), stride=(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, Y, X) of an `x` (B, inputs, Y / stride, X / stride)."""
        x = F.interpolate(x, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return self.convolution(x)  # type: ignore[no-any-return]


class SliceTransformer(nn.Module):
    """Sees a whole slice in every layer, whatever its size.

    Source:
        Dosovitskiy et al. 2020, arXiv:2010.11929; the decoder is the progressive one of Zheng et al. 2021,
        arXiv:2012.15840 (SETR-PUP).
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        self.resize_shape = arguments.resize_shape
        width, strides = arguments.width, halvings(arguments.patch)[::-1]
        grid = [size // step for size, step in zip(arguments.resize_shape, arguments.patch)]
        self.embed = patch_embedding(2, architecture.input_channels, width, patch=arguments.patch)
        self.positions = Positions(width, grid)
        self.layers = nn.ModuleList(
            Block(width, Attention(width, arguments.heads), mlp=Mlp(width, MLP_RATIO * width))
            for _ in range(arguments.depth)
        )
        self.norm = nn.LayerNorm(width)
        features = [width, *(max(FEWEST_FEATURES, width // 2**step) for step in range(1, len(strides) + 1))]
        self.decoder = nn.ModuleList(
            Doubling(before, after, stride=stride) for before, after, stride in zip(features, features[1:], strides)
        )
        self.head = pointwise(2, features[-1], architecture.output_channels)
        initialise(self)
        initialise_tokens(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Y, X), of any size.

        Returns:
            (B, K, Y, X); in training with deep supervision a list of just that.
        """
        size = x.shape[2:]
        places = self.positions(self.embed(_resized(x, self.resize_shape)))
        tokens, grid = to_sequence(places), places.shape[2:]
        for layer in self.layers:
            tokens = run(self, layer, tokens)
        x = to_grid(self.norm(tokens), grid)
        for stage in self.decoder:
            x = run(self, stage, x)
        return supervised(self, _resized(self.head(x), size))


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments.

    Raises:
        UsageError: The architecture is 3D; a key is missing, unknown, or not what it must be, and is named.
    """
    if architecture.dimensions != 2:
        raise UsageError(
            f"network {architecture.kind} works on slices, not in 3D",
            fix='Use a 2D configuration (dimensions = ["2d"]), or the presets primus or unetr in 3D.',
            code="only_2d",
        )
    check_keys(architecture, ("resize_shape", "patch", "width", "depth", "heads"))
    arguments = Arguments(
        resize_shape=axes(architecture, "resize_shape"),
        patch=axes(architecture, "patch"),
        width=number(architecture, "width"),
        depth=number(architecture, "depth"),
        heads=number(architecture, "heads"),
    )
    check_patch(architecture, arguments.patch)
    check_heads(architecture, arguments.width, arguments.heads)
    if any(size % step for size, step in zip(arguments.resize_shape, arguments.patch)):
        what = f"is {list(arguments.resize_shape)}, not a multiple of the token's patch {list(arguments.patch)}"
        raise wrong(architecture, "resize_shape", what)
    return arguments


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


# A slice of any size is resized.
KIND = of_tokens(SliceTransformer, read, token=lambda found: found.patch, resizes=True)
