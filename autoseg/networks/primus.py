"""Primus: a convolutional tokeniser, a plain transformer that does all the work, and a light decoder.

Arguments (plain JSON; [y, x] pairs instead of [z, y, x] in 2D)::

    {"patch": [4, 8, 8],       voxels of a token, powers of two, fewer along a coarse axis
     "grid": [24, 16, 16],     tokens of the training patch; other sizes interpolate the learned positions
     "width": 396,             channels of a token (published: S 396, B 792, M 864, L 1056)
     "depth": 12,              transformer layers (12, 12, 16, 24)
     "heads": 6,               of attention, a divisor of `width` (6, 12, 12, 16)
     "features": 32}           channels of the tokeniser at full resolution; they double from its second halving on
"""

# B batch, C channel, K class, N token, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from autoseg.networks.arguments import axes, check_keys, number, wrong
from autoseg.networks.blocks import ResidualBlock, initialise, pointwise, upsampling
from autoseg.networks.kinds import of_tokens
from autoseg.networks.transformer import (
    Attention,
    Block,
    ChannelNorm,
    Positions,
    SwiGlu,
    check_heads,
    check_patch,
    halvings,
    initialise_tokens,
    rotary_angles,
    run,
    supervised,
    to_grid,
    to_sequence,
)
from autoseg.records.configuration import Architecture

LAYER_SCALE = 0.1
# A gated layer has three matrices: two thirds of the usual four times the width cost the same.
MLP_RATIO = 8 / 3
FEWEST_FEATURES = 8


@dataclass(frozen=True)
class Arguments:
    """The arguments of a Primus, see the module."""

    patch: tuple[int, ...]
    grid: tuple[int, ...]
    width: int
    depth: int
    heads: int
    features: int


class Primus(nn.Module):
    """Most of the capacity lies in the transformer, because nothing leads around it.

    It is the second version's tokeniser (residual blocks that halve) with the norms and the layer scale of the
    published recipe. Stochastic depth is left out: a step must be the same whether or not it is computed twice
    (checkpointing) or resumed.

    Source:
        Wald et al. 2025, arXiv:2503.01835; positions as EVA-02, Fang et al. 2023, arXiv:2303.11331.
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        self.pairs = arguments.width // arguments.heads // 2
        width = arguments.width
        self.tokeniser = nn.ModuleList(_tokeniser(architecture, arguments))
        self.positions = Positions(width, arguments.grid)
        self.layers = nn.ModuleList(
            Block(
                width,
                Attention(width, arguments.heads, normed=True),
                mlp=SwiGlu(width, int(MLP_RATIO * width)),
                scale=LAYER_SCALE,
            )
            for _ in range(arguments.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(_decoder(architecture, arguments))
        initialise(self)
        initialise_tokens(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of the token's patch.

        Returns:
            (B, K, ...) on the grid of `x`; in training with deep supervision a list of just that.
        """
        for stage in self.tokeniser:
            x = run(self, stage, x)
        grid = x.shape[2:]
        angles = rotary_angles(grid, self.pairs, device=x.device)
        tokens = to_sequence(self.positions(x))
        for layer in self.layers:
            tokens = run(self, layer, tokens, angles)
        x = to_grid(self.norm(tokens), grid)
        for stage in self.decoder:
            x = run(self, stage, x)
        return supervised(self, x)


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    check_keys(architecture, ("patch", "grid", "width", "depth", "heads", "features"))
    arguments = Arguments(
        patch=axes(architecture, "patch"),
        grid=axes(architecture, "grid"),
        width=number(architecture, "width"),
        depth=number(architecture, "depth"),
        heads=number(architecture, "heads"),
        features=number(architecture, "features"),
    )
    check_patch(architecture, arguments.patch)
    check_heads(architecture, arguments.width, arguments.heads)
    head = arguments.width // arguments.heads
    if head % 2 or head < 2 * architecture.dimensions:
        what = f"is {arguments.heads}: {head} channels a head, but positions turn pairs of them, one or more an axis"
        raise wrong(architecture, "heads", what)
    return arguments


def _tokeniser(architecture: Architecture, arguments: Arguments) -> list[nn.Module]:
    """Return a residual block at full resolution, one a halving, and a linear map to the tokens' width."""
    dimensions, strides = architecture.dimensions, halvings(arguments.patch)
    features = [arguments.features, *(arguments.features * 2**level for level in range(len(strides)))]
    # An axis is 1 wide in a kernel until it is as fine as the others, as in the planned U-Nets.
    kernels = [*(tuple(3 if step > 1 else 1 for step in stride) for stride in strides), (3,) * dimensions]
    inputs = (architecture.input_channels, *features)
    stages: list[nn.Module] = [
        ResidualBlock(dimensions, before, outputs=outputs, kernel=kernel, stride=stride)
        for before, outputs, kernel, stride in zip(inputs, features, kernels, ((1,) * dimensions, *strides))
    ]
    return [*stages, pointwise(dimensions, features[-1], arguments.width)]


def _decoder(architecture: Architecture, arguments: Arguments) -> list[nn.Module]:
    """Return one transposed convolution a halving; channels fall evenly, by a factor, from the width to the classes."""
    dimensions, classes = architecture.dimensions, architecture.output_channels
    *coarse, finest = reversed(halvings(arguments.patch))
    channels = _falling(arguments.width, classes, steps=len(coarse) + 1)
    stages: list[nn.Module] = [
        nn.Sequential(upsampling(dimensions, before, after, stride=stride), ChannelNorm(after), nn.GELU())
        for before, after, stride in zip(channels, channels[1:], coarse)
    ]
    return [*stages, upsampling(dimensions, channels[-1], classes, stride=finest)]


def _falling(width: int, classes: int, *, steps: int) -> Sequence[int]:
    factor = (2 * classes / width) ** (1 / steps)
    steady = (width * factor**step for step in range(1, steps))
    return [width, *(max(FEWEST_FEATURES, 8 * round(channels / 8)) for channels in steady)]


KIND = of_tokens(Primus, read, token=lambda found: found.patch, fewest=2)
