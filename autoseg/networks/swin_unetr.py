"""SwinUNETR: shifted-window transformer stages as the encoder, residual convolutions and skips as the decoder.

Arguments (plain JSON; [y, x] pairs instead of [z, y, x] in 2D)::

    {"features": 24,                               channels at full resolution; they double at every merging
     "patch": [1, 2, 2],                           voxels of a token of the first stage
     "mergings": [[2, 2, 2], [2, 2, 2]],           tokens that become one behind each stage
     "depths": [2, 2],                             transformer layers of each stage; every other one is shifted
     "heads": [3, 6],                              of each stage's attention, a divisor of its channels
     "window": [7, 7, 7]}                          tokens that see each other
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks import windows
from autoseg.networks.arguments import axes, check_keys, counts, number, per_axis, wrong
from autoseg.networks.blocks import initialise, pointwise
from autoseg.networks.kinds import of_tokens
from autoseg.networks.transformer import (
    WEIGHT_STD,
    Attention,
    Mlp,
    check_heads,
    initialise_tokens,
    patch_embedding,
    run,
    supervised,
)
from autoseg.networks.unetr import UpBlock, residual
from autoseg.records.configuration import Architecture

MLP_RATIO = 4


@dataclass(frozen=True)
class Arguments:
    """The arguments of a SwinUNETR, see the module."""

    features: int
    patch: tuple[int, ...]
    mergings: tuple[tuple[int, ...], ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: tuple[int, ...]


class SwinBlock(nn.Module):
    """Attention inside windows with a bias for each distance, and an MLP, each beside a shortcut.

    Source:
        Liu et al. 2021, arXiv:2103.14030.
    """

    def __init__(self, channels: int, heads: int, *, window: Sequence[int], shifted: bool):
        super().__init__()
        self.window, self.shifted = tuple(window), shifted
        self.first_norm, self.second_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.mlp = Mlp(channels, MLP_RATIO * channels)
        self.table = nn.Parameter(torch.empty(math.prod(2 * size - 1 for size in window), heads))
        nn.init.normal_(self.table, std=WEIGHT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, *grid, C)."""
        cut = windows.cut(x.shape[1:-1], self.window, shifted=self.shifted)
        inside = windows.partition(self.first_norm(x), cut)
        mixed = self.attention(inside, bias=self._bias(cut, x.shape[0], x.device))
        x = x + windows.merge(mixed, cut)
        return x + self.mlp(self.second_norm(x))  # type: ignore[no-any-return]

    def _bias(self, cut: windows.Windows, samples: int, device: torch.device) -> Tensor:
        bias = self.table[windows.relative_places(cut.size, self.window, device=device)].permute(2, 0, 1)[None]
        hidden = windows.hidden_pairs(cut, device=device)
        if hidden is None:
            return bias
        bias = bias.masked_fill(hidden[:, None], -math.inf)
        return bias.repeat(samples, 1, 1, 1)


class Merging(nn.Module):
    """Joins neighbouring tokens along the given axes into one of twice the channels."""

    def __init__(self, channels: int, stride: Sequence[int]):
        super().__init__()
        self.stride = tuple(stride)
        joined = channels * math.prod(stride)
        self.norm = nn.LayerNorm(joined)
        self.reduce = nn.Linear(joined, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, *grid / stride, 2C) of tokens (B, *grid, C)."""
        parts = []
        for offset in itertools.product(*(range(step) for step in self.stride)):
            corner = (slice(start, None, step) for start, step in zip(offset, self.stride))
            parts.append(x[(slice(None), *corner)])
        return self.reduce(self.norm(torch.cat(parts, -1)))  # type: ignore[no-any-return]


class SwinUnetr(nn.Module):
    """Windows keep attention's cost linear in the voxels; shifting every other layer joins neighbouring windows.

    Axes that are not merged keep their tokens, and the decoder's kernels are 1 along them.

    Source:
        Hatamizadeh et al. 2022, arXiv:2201.01266; with 2 along every axis it is the published network.
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        dimensions = architecture.dimensions
        # Level 0 is the image's grid, level 1 that of the tokens, and every merging leads one level down.
        strides = (arguments.patch, *arguments.mergings)
        features = [arguments.features, *(arguments.features * 2**stage for stage in range(len(strides)))]
        kernels = [tuple(3 if step > 1 else 1 for step in stride) for stride in strides] + [(3,) * dimensions]
        self.embed = patch_embedding(dimensions, architecture.input_channels, features[1], patch=arguments.patch)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(SwinBlock(channels, heads, window=arguments.window, shifted=index % 2 == 1) for index in range(depth))
            )
            for channels, heads, depth in zip(features[1:], arguments.heads, arguments.depths)
        )
        self.mergings = nn.ModuleList(
            Merging(channels, stride) for channels, stride in zip(features[1:], arguments.mergings)
        )
        self.image = residual(dimensions, architecture.input_channels, features[0], kernel=kernels[0])
        # As published, the last skip but one goes to the decoder as it is.
        refined = [level for level in range(1, len(features)) if level != len(features) - 2 or level == 1]
        self.refine = nn.ModuleDict(
            {
                str(level): residual(dimensions, features[level], features[level], kernel=kernels[level])
                for level in refined
            }
        )
        self.decoder = nn.ModuleList(
            UpBlock(dimensions, below, outputs=outputs, kernel=kernel, stride=stride)
            for below, outputs, kernel, stride in zip(features[1:], features, kernels, strides)
        )
        self.head = pointwise(dimensions, features[0], architecture.output_channels)
        initialise(self)
        initialise_tokens(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of `divisor`.

        Returns:
            (B, K, ...) on the grid of `x`; in training with deep supervision a list of just that.
        """
        skips = [run(self, self.image, x)]
        tokens = self.embed(x).movedim(1, -1)
        skips.append(self._skip(tokens, 1))
        for level, (stage, merging) in enumerate(zip(self.stages, self.mergings), start=2):
            for block in stage.children():
                tokens = run(self, block, tokens)
            tokens = run(self, merging, tokens)
            skips.append(self._skip(tokens, level))
        below = skips.pop()
        for stage in reversed(self.decoder):
            below = run(self, stage, below, skips.pop())
        return supervised(self, self.head(below))

    def _skip(self, tokens: Tensor, level: int) -> Tensor:
        places = F.layer_norm(tokens, tokens.shape[-1:]).movedim(-1, 1)
        return run(self, self.refine[str(level)], places) if str(level) in self.refine else places


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    check_keys(architecture, ("features", "patch", "mergings", "depths", "heads", "window"))
    depths = counts(architecture, "depths")
    arguments = Arguments(
        features=number(architecture, "features"),
        patch=axes(architecture, "patch"),
        mergings=per_axis(architecture, "mergings", length=len(depths)),
        depths=depths,
        heads=counts(architecture, "heads", length=len(depths)),
        window=axes(architecture, "window"),
    )
    for stage, heads in enumerate(arguments.heads):
        check_heads(architecture, arguments.features * 2**stage, heads)
    for stride in arguments.mergings:
        if set(stride) == {1}:
            raise wrong(architecture, "mergings", f"has the entry {list(stride)}, which joins no tokens")
    return arguments


def _coarsest(arguments: Arguments) -> list[int]:
    """Return the voxels behind the last merging: a token's times all mergings."""
    return [math.prod(steps) for steps in zip(arguments.patch, *arguments.mergings)]


KIND = of_tokens(SwinUnetr, read, token=_coarsest, fewest=2)
