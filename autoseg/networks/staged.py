"""What the networks of stages share: their arguments, their rule of shape, and the way through encoder and decoder.

Arguments (plain JSON; [y, x] pairs instead of [z, y, x] in 2D)::

    {"features": [32, 64, 128],                              of each stage, finest first
     "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],           with which each stage begins
     "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],           of each stage's convolutions, odd
     "blocks": [2, 2, 2],                                    blocks of each stage of the encoder
     "decoder_blocks": [2, 2]}                               blocks of each stage of the decoder, coarsest first
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.networks.arguments import check_keys, counts, per_axis, wrong
from autoseg.networks.blocks import checkpointed
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape

KEYS = ("features", "strides", "kernels", "blocks", "decoder_blocks")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a network of stages, finest first; `decoder_blocks` one fewer, coarsest first."""

    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]


class StagedNetwork(nn.Module):
    """An encoder that shortens axes stage by stage and a decoder that takes each stage's output back in.

    Attributes:
        decoder: Modules of (below, skip), coarsest first.
        heads: Features -> logits, one a decoder stage, or one for the finest alone.
    """

    def __init__(
        self,
        architecture: Architecture,
        stem: nn.Module,
        *,
        encoder: Iterable[nn.Module],
        decoder: Iterable[nn.Module],
        heads: Iterable[nn.Module],
    ):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        self.stem = stem
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of the product of its strides.

        Returns:
            In evaluation, and without deep supervision: (B, K, ...) on the grid of `x`. In training: a list of
            logits, finest first, one a decoder stage.
        """
        checkpointing = self.checkpointing and self.training
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = run(stage, x, checkpointing=checkpointing)
            skips.append(x)
        skips.pop()
        outputs: list[Tensor] = []
        for index, stage in enumerate(self.decoder):
            x = run(stage, x, skips.pop(), checkpointing=checkpointing)
            if self.training and self.deep_supervision:
                outputs.append(self.heads[index](x))
        return outputs[::-1] if outputs else self.heads[-1](x)


def run(stage: Callable[..., Tensor], *inputs: Tensor, checkpointing: bool) -> Tensor:
    """Return `stage(*inputs)`, its activations computed again in the backward pass where `checkpointing` says so."""
    if checkpointing and torch.is_grad_enabled():
        return checkpointed(stage, *inputs)
    return stage(*inputs)


def headed(architecture: Architecture, arguments: Arguments) -> Sequence[int]:
    """Return the stages whose decoder output becomes logits, coarsest first; without deep supervision the finest."""
    stages = range(len(arguments.features) - 2, -1, -1)
    return stages if architecture.deep_supervision else stages[-1:]


def divisor(architecture: Architecture) -> Shape:
    """Return what each patch axis (z, y, x) must be a multiple of: the product of its strides; 1 for z in 2D.

    Raises:
        UsageError: The arguments do not describe a network of stages.
    """
    products = [1] * architecture.dimensions
    # Keys of the kind's own have no part in it; whoever builds the network checks them.
    for stride in read(architecture, optional=tuple(architecture.arguments)).strides:
        products = [product * step for product, step in zip(products, stride)]
    z, y, x = (1, *products)[-3:]
    return z, y, x


def min_shape(architecture: Architecture) -> Shape:
    """Return the smallest patch (z, y, x): two voxels at the bottleneck, because a norm over one leaves nothing.

    Raises:
        UsageError: The arguments do not describe a network of stages.
    """
    z, y, x = divisor(architecture)
    return z if z == 1 else 2 * z, 2 * y, 2 * x


def read(architecture: Architecture, *, optional: Sequence[str] = ()) -> Arguments:
    """Return the checked arguments; those named `optional` are the caller's to read.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    check_keys(architecture, KEYS, optional=optional)
    features = counts(architecture, "features")
    if len(features) < 2:
        raise wrong(architecture, "features", "has 1 entry, but a U-Net has 2 stages or more")
    kernels = per_axis(architecture, "kernels", length=len(features))
    if any(size % 2 == 0 for kernel in kernels for size in kernel):
        raise wrong(architecture, "kernels", f"is {architecture.arguments['kernels']!r}, but a kernel's size is odd")
    strides = per_axis(architecture, "strides", length=len(features))
    if set(strides[0]) != {1}:
        raise wrong(architecture, "strides", f"begins with {list(strides[0])}, but the first stage keeps every voxel")
    return Arguments(
        features=features,
        strides=strides,
        kernels=kernels,
        blocks=counts(architecture, "blocks", length=len(features)),
        decoder_blocks=counts(architecture, "decoder_blocks", length=len(features) - 1),
    )


def choice(architecture: Architecture, key: str, valid: Sequence[str]) -> str:
    """Return the word under an optional key, the first of `valid` where it is absent.

    Raises:
        UsageError: It is none of `valid`.
    """
    value = architecture.arguments.get(key, valid[0])
    if not isinstance(value, str) or value not in valid:
        raise wrong(architecture, key, f"is {value!r}", fix=f"Use one of {', '.join(valid)}.")
    return value
