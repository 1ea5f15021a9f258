"""The plain, the residual-encoder and the attention U-Net, in 2D and 3D, with strides and kernels per stage and axis.

Arguments (plain JSON; [y, x] pairs instead of [z, y, x] in 2D)::

    {"features": [32, 64, 128],                              of each stage, finest first
     "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],           with which each stage begins
     "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],           of each stage's convolutions, odd
     "blocks": [2, 2, 2],                                    convolutions (residual_unet: residual blocks) of each stage
     "decoder_blocks": [2, 2]}                               convolutions of each decoder stage, coarsest first
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.networks.arguments import check_keys, counts, per_axis, wrong
from autoseg.networks.blocks import (
    AttentionGate,
    ConvNormAct,
    ResidualBlock,
    checkpointed,
    initialise,
    pointwise,
    upsampling,
)
from autoseg.records.geometry import Shape
from autoseg.records.plan import Architecture


@dataclass(frozen=True)
class Arguments:
    """The arguments of a U-Net: one entry a stage, finest first; `decoder_blocks` one fewer, coarsest first."""

    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]


class UNet(nn.Module):
    """An encoder that halves axes stage by stage, a decoder that doubles them back, and skips between the two.

    Source:
        Ronneberger et al. 2015, arXiv:1505.04597; Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (plain) and
        2024, arXiv:2404.09556 (residual encoder); Oktay et al. 2018, arXiv:1804.03999 (attention).
    """

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.deep_supervision = architecture.deep_supervision
        self.checkpointing = architecture.checkpointing
        dimensions, features = architecture.dimensions, arguments.features
        residual = architecture.kind == "residual_unet"
        gated = architecture.kind == "attention_unet"
        self.stem = _stem(architecture, arguments) if residual else nn.Identity()
        entry = features[0] if residual else architecture.input_channels
        self.encoder = nn.ModuleList(
            _encoder_stage(dimensions, before, arguments, stage=stage, residual=residual)
            for stage, before in enumerate((entry, *features[:-1]))
        )
        coarse_to_fine = range(len(features) - 2, -1, -1)
        self.decoder = nn.ModuleList(
            _decoder_stage(dimensions, arguments, stage=stage, blocks=blocks)
            for stage, blocks in zip(coarse_to_fine, arguments.decoder_blocks)
        )
        self.ups = nn.ModuleList(
            upsampling(dimensions, features[stage + 1], features[stage], stride=arguments.strides[stage + 1])
            for stage in coarse_to_fine
        )
        self.gates = nn.ModuleList(
            AttentionGate(dimensions, features[stage], below=features[stage + 1], stride=arguments.strides[stage + 1])
            for stage in coarse_to_fine
            if gated
        )
        # Coarsest first, like the decoder; without deep supervision only the finest has a use.
        headed = coarse_to_fine if architecture.deep_supervision else coarse_to_fine[-1:]
        self.heads = nn.ModuleList(
            pointwise(dimensions, features[stage], architecture.output_channels) for stage in headed
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of the product of its strides.

        Returns:
            In evaluation, and without deep supervision: (B, K, ...) on the grid of `x`. In training: a list of
            logits, finest first, one a decoder stage.
        """
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the features of every stage, finest first; `x` as in `forward`."""
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = self._run(stage, x)
            skips.append(x)
        return skips

    def decode(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """Return what `forward` returns, of the features of every stage; the list is emptied."""
        x = features.pop()
        outputs: list[Tensor] = []
        for index in range(len(self.decoder)):
            x = self._run(self._decode(index), x, features.pop())
            if self.training and self.deep_supervision:
                outputs.append(self.heads[index](x))
        return outputs[::-1] if outputs else self.heads[-1](x)

    def _decode(self, index: int) -> Callable[[Tensor, Tensor], Tensor]:
        def stage(below: Tensor, skip: Tensor) -> Tensor:
            if len(self.gates):
                skip = self.gates[index](skip, below)
            return self.decoder[index](torch.cat((self.ups[index](below), skip), 1))  # type: ignore[no-any-return]

        return stage

    def _run(self, stage: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(stage, *inputs)
        return stage(*inputs)


def build(architecture: Architecture) -> UNet:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a U-Net; the message names the key.
    """
    return UNet(architecture, read(architecture))


def divisor(architecture: Architecture) -> Shape:
    """Return what each patch axis (z, y, x) must be a multiple of: the product of its strides; 1 for z in 2D.

    Raises:
        UsageError: The arguments do not describe a U-Net.
    """
    products = [1] * architecture.dimensions
    for stride in read(architecture).strides:
        products = [product * step for product, step in zip(products, stride)]
    z, y, x = (1, *products)[-3:]
    return z, y, x


def min_shape(architecture: Architecture) -> Shape:
    """Return the smallest patch (z, y, x): two voxels at the bottleneck, because a norm over one leaves nothing.

    Raises:
        UsageError: The arguments do not describe a U-Net.
    """
    z, y, x = divisor(architecture)
    return z if z == 1 else 2 * z, 2 * y, 2 * x


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    check_keys(architecture, ("features", "strides", "kernels", "blocks", "decoder_blocks"))
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


def _stem(architecture: Architecture, arguments: Arguments) -> nn.Module:
    ones = (1,) * architecture.dimensions
    return ConvNormAct(
        architecture.dimensions,
        architecture.input_channels,
        outputs=arguments.features[0],
        kernel=arguments.kernels[0],
        stride=ones,
    )


def _encoder_stage(dimensions: int, inputs: int, arguments: Arguments, *, stage: int, residual: bool) -> nn.Module:
    block = ResidualBlock if residual else ConvNormAct
    outputs, kernel = arguments.features[stage], arguments.kernels[stage]
    strides: list[Sequence[int]] = [arguments.strides[stage]]
    strides += [(1,) * dimensions] * (arguments.blocks[stage] - 1)
    return nn.Sequential(
        *(
            block(dimensions, outputs if index else inputs, outputs=outputs, kernel=kernel, stride=stride)
            for index, stride in enumerate(strides)
        )
    )


def _decoder_stage(dimensions: int, arguments: Arguments, *, stage: int, blocks: int) -> nn.Module:
    outputs, kernel, ones = arguments.features[stage], arguments.kernels[stage], (1,) * dimensions
    return nn.Sequential(
        *(
            ConvNormAct(dimensions, outputs if index else 2 * outputs, outputs=outputs, kernel=kernel, stride=ones)
            for index in range(blocks)
        )
    )
