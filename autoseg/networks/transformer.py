"""Attention, its positions and its blocks, for every network that works on tokens.

A token is one voxel of a coarse grid; sequences run through that grid in (z, y, x) order, x fastest.
"""

# B batch, C channel, N token, H head, D channels of one head; a grid is (z, y, x) tokens, (y, x) in 2D

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.arguments import wrong
from autoseg.networks.blocks import checkpointed
from autoseg.records.configuration import Architecture

WEIGHT_STD = 0.02
WAVELENGTH = 10_000.0

_EMBEDDINGS: Mapping[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_MODES = {2: "bilinear", 3: "trilinear"}


def patch_embedding(dimensions: int, inputs: int, outputs: int, *, patch: Sequence[int]) -> nn.Module:
    """Return the linear map of every patch of `patch` voxels an axis to one token of `outputs` channels."""
    return _EMBEDDINGS[dimensions](inputs, outputs, tuple(patch), tuple(patch))


def to_sequence(x: Tensor) -> Tensor:
    """Return the voxels of `x` (B, C, ...) as tokens (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def to_grid(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """Return tokens (B, N, C) as voxels (B, C, *grid)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def rotary_angles(grid: Sequence[int], pairs: int, *, device: torch.device | None = None) -> Tensor:
    """Return the angle by which each pair of channels of each token is turned.

    The pairs are shared out evenly among the axes; those that are left over are not turned. Turning queries and keys
    makes their product depend on the distance between two tokens, axis by axis, and on nothing else of their places.

    Args:
        grid: Tokens an axis.
        pairs: Half the channels of a head.
        device: Where the answer lies.

    Returns:
        (N, pairs), radians, float32.

    Source:
        Su et al. 2021, arXiv:2104.09864; over several axes as Wald et al. 2025, arXiv:2503.01835.
    """
    each = pairs // len(grid)
    rates = WAVELENGTH ** (-torch.arange(each, device=device, dtype=torch.float32) / max(each, 1))
    places = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    mesh = torch.meshgrid(*places, indexing="ij")
    turned = [place.reshape(-1, 1) * rates for place in mesh]
    rest = torch.zeros(turned[0].shape[0], pairs - each * len(grid), device=device)
    return torch.cat((*turned, rest), 1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Return `x` (B, H, N, D) with channels i and i + D/2 turned against each other by `angles` (N, D/2)."""
    cosine, sine = angles.cos(), angles.sin()
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), -1).to(x.dtype)


class Positions(nn.Module):
    """A learned vector a token, interpolated where the grid is another than the one it was made for."""

    def __init__(self, channels: int, grid: Sequence[int]):
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(1, channels, *grid))
        nn.init.normal_(self.vectors, std=WEIGHT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, ...) with the vector of each place added."""
        grid = x.shape[2:]
        vectors: Tensor = self.vectors
        if vectors.shape[2:] != grid:
            vectors = F.interpolate(vectors, size=grid, mode=_MODES[len(grid)], align_corners=False)
        return x + vectors


class Attention(nn.Module):
    """Multi-head self-attention, with a norm of what was mixed where `normed` says so.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762; the norm is that of EVA-02, Fang et al. 2023, arXiv:2303.11331.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool = True, normed: bool = False):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels) if normed else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, *, angles: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Return a mixture of tokens for every token.

        Args:
            x: (B, N, C).
            angles: (N, D/2), see `rotary_angles`.
            bias: (1 or B, H, N, N), added to the scores; minus infinity hides a token.

        Returns:
            (B, N, C).
        """
        batch, count, channels = x.shape
        query, key, value = self._heads(x, angles)
        bias = None if bias is None else bias.to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined = mixed.transpose(1, 2)
        if torch.compiler.is_exporting():
            # The exporter sees a kernel that leaves heads beside their tokens, and writes operators that do not.
            joined = joined.clone(memory_format=torch.contiguous_format)
        return self.out(self.norm(joined.reshape(batch, count, channels)))  # type: ignore[no-any-return]

    def shares(self, x: Tensor, *, angles: Tensor | None = None) -> Tensor:
        """Return how much every token takes of every other: (B, H, N, N), each row adding up to 1, without a bias."""
        query, key, _ = self._heads(x, angles)
        return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)

    def _heads(self, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        # -> query, key and value, each (B, H, N, D)
        batch, count, channels = x.shape
        packed = self.qkv(x).reshape(batch, count, 3, self.heads, channels // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.into = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, N, C)."""
        return self.out(F.gelu(self.into(x)))  # type: ignore[no-any-return]


class SwiGlu(nn.Module):
    """A linear layer whose outputs are gated by the SiLU of another, a norm, and a third that leads back.

    Source:
        Shazeer 2020, arXiv:2002.05202; the norm is that of EVA-02, Fang et al. 2023, arXiv:2303.11331.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(channels, hidden)
        self.into = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, N, C)."""
        return self.out(self.norm(F.silu(self.gate(x)) * self.into(x)))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned factor a channel, small at first, so that every block begins near the identity.

    Source:
        Touvron et al. 2021, arXiv:2103.17239.
    """

    def __init__(self, channels: int, start: float):
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (..., C) scaled."""
        return x * self.factor


class Block(nn.Module):
    """Attention and an MLP, each behind a layer norm and beside a shortcut.

    Source:
        Dosovitskiy et al. 2020, arXiv:2010.11929.
    """

    def __init__(self, channels: int, attention: Attention, *, mlp: nn.Module, scale: float | None = None):
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention, self.mlp = attention, mlp
        self.first_scale = nn.Identity() if scale is None else LayerScale(channels, scale)
        self.second_scale = nn.Identity() if scale is None else LayerScale(channels, scale)

    def forward(self, x: Tensor, angles: Tensor | None = None) -> Tensor:
        """Return the shape of `x` (B, N, C); `angles` as in `Attention`."""
        x = x + self.first_scale(self.attention(self.first_norm(x), angles=angles))
        return x + self.second_scale(self.mlp(self.second_norm(x)))  # type: ignore[no-any-return]


class ChannelNorm(nn.Module):
    """Layer norm over the channels of every voxel."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, C, ...)."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]


def run(network: nn.Module, stage: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `stage(*inputs)`, computed again in the backward pass where the network's `checkpointing` says so."""
    if network.checkpointing and network.training and torch.is_grad_enabled():
        return checkpointed(stage, *inputs)
    return stage(*inputs)


def supervised(network: nn.Module, logits: Tensor) -> Tensor | list[Tensor]:
    """Return the one output as a network with deep supervision returns its own: in training a list."""
    return [logits] if network.training and network.deep_supervision else logits


def initialise_tokens(network: nn.Module) -> None:
    """Draw the weights of every linear layer (normal, deviation 0.02) and zero the biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=WEIGHT_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def halvings(patch: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the strides that lead from voxels to tokens of `patch` voxels, finest first.

    Every axis is halved as late as it can be, so an axis with a smaller token (the coarse one) keeps its voxels on
    the fine levels: [4, 8, 8] is (1, 2, 2), (2, 2, 2), (2, 2, 2).
    """
    counts = [size.bit_length() - 1 for size in patch]
    levels = max(counts)
    return tuple(tuple(2 if levels - level <= count else 1 for count in counts) for level in range(levels))


def check_heads(architecture: Architecture, channels: int, heads: int, *, key: str = "heads") -> None:
    """Raise unless every head gets the same whole number of channels.

    Raises:
        UsageError: It does not.
    """
    if channels % heads:
        raise wrong(architecture, key, f"is {heads}, which does not divide {channels} channels")


def check_patch(architecture: Architecture, patch: Sequence[int]) -> None:
    """Raise unless a token's patch can be reached by halving, and is more than one voxel.

    Raises:
        UsageError: It cannot.
    """
    if max(patch) < 2 or any(size & (size - 1) for size in patch):
        raise wrong(architecture, "patch", f"is {list(patch)}, not powers of two of which one is 2 or more")
