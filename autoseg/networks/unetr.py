"""UNETR: a vision transformer over large patches as the encoder, a convolutional decoder with skips from its layers.

Arguments (plain JSON; [y, x] pairs instead of [z, y, x] in 2D)::

    {"patch": [8, 16, 16],     voxels of a token, powers of two, fewer along a coarse axis
     "grid": [6, 6, 6],        tokens of the training patch; other sizes interpolate the positions
     "hidden": 768,            channels of a token
     "depth": 12,              transformer layers, at least one a halving of the patch
     "heads": 12,              of attention, a divisor of `hidden`
     "features": 16}           channels at full resolution; they double from level to level
"""

# B batch, C channel, K class, N token, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.networks.arguments import axes, check_keys, number, wrong
from autoseg.networks.blocks import ResidualBlock, initialise, pointwise, upsampling
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

MLP_RATIO = 4


@dataclass(frozen=True)
class Arguments:
    """The arguments of a UNETR, see the module."""

    patch: tuple[int, ...]
    grid: tuple[int, ...]
    hidden: int
    depth: int
    heads: int
    features: int


class UpBlock(nn.Module):
    """Transposed convolution, the skip of that level beside it, and a residual block of two convolutions."""

    def __init__(self, dimensions: int, inputs: int, *, outputs: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        self.up = upsampling(dimensions, inputs, outputs, stride=stride)
        self.mix = residual(dimensions, 2 * outputs, outputs, kernel=kernel)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return (B, outputs, ...) on the grid of `skip` (B, outputs, ...)."""
        return self.mix(torch.cat((self.up(below), skip), 1))  # type: ignore[no-any-return]


class Unetr(nn.Module):
    """Tokens see the whole patch in every layer; layers a quarter apart are the skips of the decoder.

    Each halving of the patch is one level of the decoder, and per axis an axis that has a smaller token joins at the
    coarse levels (see `transformer.halvings`). A level's kernel is 1 along the axes that it does not halve.

    Source:
        Hatamizadeh et al. 2022, arXiv:2103.10504; with a patch of 16 along every axis it is the published network.
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        dimensions, hidden = architecture.dimensions, arguments.hidden
        strides = halvings(arguments.patch)
        levels = len(strides)
        kernels = [tuple(3 if step > 1 else 1 for step in stride) for stride in strides]
        features = [arguments.features * 2**level for level in range(levels)]
        # Number of layers behind which each inner level takes its skip, finest level first.
        self.skip_layers = tuple(round(arguments.depth * level / levels) for level in range(1, levels))
        self.embed = patch_embedding(dimensions, architecture.input_channels, hidden, patch=arguments.patch)
        self.positions = Positions(hidden, arguments.grid)
        self.layers = nn.ModuleList(
            Block(hidden, Attention(hidden, arguments.heads, bias=False), mlp=Mlp(hidden, MLP_RATIO * hidden))
            for _ in range(arguments.depth)
        )
        self.norm = nn.LayerNorm(hidden)
        self.image = residual(dimensions, architecture.input_channels, features[0], kernel=kernels[0])
        self.skips = nn.ModuleList(
            _skip(dimensions, hidden, features[level], kernels=kernels[level:], strides=strides[level:])
            for level in range(1, levels)
        )
        self.decoder = nn.ModuleList(
            UpBlock(dimensions, below, outputs=outputs, kernel=kernel, stride=stride)
            for below, outputs, kernel, stride in zip((*features[1:], hidden), features, kernels, strides)
        )
        self.head = pointwise(dimensions, features[0], architecture.output_channels)
        initialise(self)
        initialise_tokens(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of the token's patch.

        Returns:
            (B, K, ...) on the grid of `x`; in training with deep supervision a list of just that.
        """
        places = self.positions(self.embed(x))
        tokens, grid = to_sequence(places), places.shape[2:]
        skips = [run(self, self.image, x)]
        for count, layer in enumerate(self.layers, start=1):
            tokens = run(self, layer, tokens)
            skips += [
                run(self, skip, to_grid(tokens, grid))
                for skip, taken in zip(self.skips, self.skip_layers)
                if taken == count
            ]
        below = to_grid(self.norm(tokens), grid)
        for stage, skip in zip(reversed(self.decoder), reversed(skips)):
            below = run(self, stage, below, skip)
        return supervised(self, self.head(below))


def residual(dimensions: int, inputs: int, outputs: int, *, kernel: Sequence[int]) -> ResidualBlock:
    """Return two convolutions beside a shortcut, without a stride."""
    return ResidualBlock(dimensions, inputs, outputs=outputs, kernel=kernel, stride=(1,) * dimensions)


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    check_keys(architecture, ("patch", "grid", "hidden", "depth", "heads", "features"))
    arguments = Arguments(
        patch=axes(architecture, "patch"),
        grid=axes(architecture, "grid"),
        hidden=number(architecture, "hidden"),
        depth=number(architecture, "depth"),
        heads=number(architecture, "heads"),
        features=number(architecture, "features"),
    )
    check_patch(architecture, arguments.patch)
    check_heads(architecture, arguments.hidden, arguments.heads)
    levels = len(halvings(arguments.patch))
    if arguments.depth < levels:
        what = f"is {arguments.depth}, but a patch of {list(arguments.patch)} takes skips from {levels} layers or more"
        raise wrong(architecture, "depth", what)
    return arguments


def _skip(
    dimensions: int, hidden: int, outputs: int, *, kernels: Sequence[Sequence[int]], strides: Sequence[Sequence[int]]
) -> nn.Module:
    """Return the way from tokens up to one level: the strides of the levels below it, coarsest first."""
    *finer, coarsest = strides
    steps: list[nn.Module] = [upsampling(dimensions, hidden, outputs, stride=coarsest)]
    for kernel, stride in reversed(list(zip(kernels, finer))):
        steps.append(upsampling(dimensions, outputs, outputs, stride=stride))
        steps.append(residual(dimensions, outputs, outputs, kernel=kernel))
    return nn.Sequential(*steps)


KIND = of_tokens(Unetr, read, token=lambda found: found.patch)
