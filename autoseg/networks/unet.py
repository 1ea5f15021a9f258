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

import torch
from torch import Tensor, nn

from autoseg.networks.blocks import (
    AttentionGate,
    ConvNormAct,
    ResidualBlock,
    initialise,
    pointwise,
    upsampling,
)
from autoseg.networks.staged import Arguments, headed, read, run
from autoseg.records.configuration import Architecture


class UNet(nn.Module):
    """An encoder that halves axes stage by stage, a decoder that doubles them back, and skips between the two.

    Source:
        Ronneberger et al. 2015, arXiv:1505.04597; Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (plain) and
        2024, arXiv:2404.09556 (residual encoder); Oktay et al. 2018, arXiv:1804.03999 (attention). The first two are
        checked against dynamic-network-architectures. MONAI's AttentionUnet has another gate: it compares the skip
        with features that were brought up already, voxel by voxel, where the paper (and ours) compares on the coarser
        grid and interpolates the weights; there is no other implementation at hand to compare with.
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
        self.heads = nn.ModuleList(
            pointwise(dimensions, features[stage], architecture.output_channels)
            for stage in headed(architecture, arguments)
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
        checkpointing = self.checkpointing and self.training
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = run(stage, x, checkpointing=checkpointing)
            skips.append(x)
        return skips

    def decode(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """Return what `forward` returns, of the features of every stage; the list is emptied."""
        checkpointing = self.checkpointing and self.training
        x = features.pop()
        outputs: list[Tensor] = []
        for index in range(len(self.decoder)):
            x = run(self._decode(index), x, features.pop(), checkpointing=checkpointing)
            if self.training and self.deep_supervision:
                outputs.append(self.heads[index](x))
        return outputs[::-1] if outputs else self.heads[-1](x)

    def _decode(self, index: int) -> Callable[[Tensor, Tensor], Tensor]:
        def stage(below: Tensor, skip: Tensor) -> Tensor:
            if len(self.gates):
                skip = self.gates[index](skip, below)
            return self.decoder[index](torch.cat((self.ups[index](below), skip), 1))  # type: ignore[no-any-return]

        return stage


def build(architecture: Architecture) -> UNet:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a U-Net; the message names the key.
    """
    return UNet(architecture, read(architecture))


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
