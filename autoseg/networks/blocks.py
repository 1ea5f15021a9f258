"""Convolution, norm, residual and attention-gate blocks that the convolutional networks share.

A block takes the number of spatial axes (2 or 3) and works in both; strides and kernels are one number an axis.
"""

# B batch, C channel, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function, has_torch_function_unary
from torch.utils.checkpoint import checkpoint

EPSILON = 1e-5
SLOPE = 0.01

_Layers = Mapping[int, Callable[..., nn.Module]]
_CONVOLUTIONS: _Layers = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: _Layers = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLS: _Layers = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 1.0) -> Tensor:
    """Normalise every channel of every sample to mean 0 and variance 1, scale and shift it, and activate.

    Args:
        x: (B, C, ...), any floating type.
        weight: (C,), the scale.
        bias: (C,), the shift.
        slope: Of the leaky ReLU that follows; 1 leaves it out.

    Returns:
        The shape and the type of `x`.

    Source:
        Ulyanov et al. 2016, arXiv:1607.08022.
    """
    # Overridable, so that a dry run on the CPU can count what a card would hold (networks/tracking.py).
    if has_torch_function_unary(x):
        return handle_torch_function(instance_norm, (x,), x, weight, bias, slope=slope)  # type: ignore[no-any-return]
    # A group a channel is the same arithmetic. On a CPU its kernel is 3.4 x faster on contiguous float32 and a
    # little faster on bfloat16, but its backward pass is 12 x slower channels-last; under CUDA autocast it would
    # run in float32 and double the memory.
    # It is the only one, too, that leaves the number of samples open in an ONNX file.
    if x.device.type == "cpu" and (x.is_contiguous() or torch.compiler.is_exporting()):
        # The number of channels as the scale knows it: an ONNX export may have lost that of `x`.
        return _activate(torch.group_norm(x, weight.shape[0], weight, bias, EPSILON), slope)
    if x.device.type == "cpu" and x.is_contiguous(memory_format=_channels_last(x)):
        return _instance_norm_sample_by_sample(x, weight, bias, slope=slope)
    return instance_norm_by_batch(x, weight, bias, slope=slope)


def _channels_last(x: Tensor) -> torch.memory_format:
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim(), torch.contiguous_format)


def _instance_norm_sample_by_sample(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float) -> Tensor:
    """Keep the channels last: the batch norm of one sample alone is its instance norm, and needs no other layout.

    Measured on a U-Net of 32 to 256 features at 40x56x40, batch 7, bfloat16: a step takes 2.57 s with the samples laid
    out as channels, 2.25 s like this, and 2.44 s contiguous.
    """
    one_by_one = [torch.batch_norm(item, weight, bias, None, None, True, 0.0, EPSILON, False) for item in x.split(1)]
    return _activate(torch.cat(one_by_one), slope)


def instance_norm_by_batch(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float = 1.0) -> Tensor:
    """Return the same as `instance_norm` by the kernel of batch norm, every channel of every sample a channel."""
    samples, channels = x.shape[:2]
    flat = x.reshape(1, samples * channels, *x.shape[2:])
    backend = torch.backends.cudnn.enabled
    flat = torch.batch_norm(flat, weight.repeat(samples), bias.repeat(samples), None, None, True, 0.0, EPSILON, backend)
    # Activated before the view: an in-place change of a view costs two copies in the backward pass (which is what
    # torch's InstanceNorm followed by an in-place ReLU pays).
    return _activate(flat, slope).view(x.shape)


def _activate(x: Tensor, slope: float) -> Tensor:
    # In place: neither the norm nor the activation needs what is overwritten, and it spares a copy a layer.
    return x if slope == 1 else F.leaky_relu_(x, slope)


class InstanceNorm(nn.Module):
    """Instance normalisation with a scale and a shift a channel, over any number of axes.

    Attributes:
        slope: Of the leaky ReLU that follows; 1 leaves it out.
    """

    def __init__(self, channels: int, *, slope: float = 1.0):
        super().__init__()
        self.slope = slope
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, ...) normalised."""
        return instance_norm(x, self.weight, self.bias, slope=self.slope)


def checkpointed(stage: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `stage(*inputs)`; in training its activations are not kept but computed again in the backward pass.

    Args:
        stage: Draws no random numbers, because their state is not brought back.
        inputs: What it takes.
    """
    # Overridable as `instance_norm` is, so that a dry run counts the second computation as it does the first.
    if has_torch_function(inputs):
        return handle_torch_function(checkpointed, inputs, stage, *inputs)  # type: ignore[no-any-return]
    return checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


def convolution(
    dimensions: int, inputs: int, outputs: int, *, kernel: Sequence[int], stride: Sequence[int], bias: bool = True
) -> nn.Module:
    """Return a convolution from (B, inputs, ...) whose output has `size / stride` voxels an axis.

    Args:
        dimensions: 2 or 3.
        inputs: Channels.
        outputs: Channels.
        kernel: Voxels an axis, odd.
        stride: An axis.
        bias: Whether a number is added to each output channel.
    """
    padding = tuple((size - 1) // 2 for size in kernel)
    return _CONVOLUTIONS[dimensions](inputs, outputs, tuple(kernel), tuple(stride), padding, bias=bias)


def pointwise(dimensions: int, inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """Return a convolution of one voxel: a linear map of the channels."""
    return _CONVOLUTIONS[dimensions](inputs, outputs, 1, bias=bias)


def upsampling(dimensions: int, inputs: int, outputs: int, *, stride: Sequence[int]) -> nn.Module:
    """Return a transposed convolution that makes each axis `stride` times as long."""
    return _TRANSPOSED[dimensions](inputs, outputs, tuple(stride), tuple(stride))


def dilated(
    dimensions: int, inputs: int, outputs: int, *, kernel: Sequence[int], stride: Sequence[int], rate: Sequence[int]
) -> nn.Module:
    """Return a convolution whose taps lie `rate` voxels apart an axis; its output has ceil(size / stride) voxels."""
    padding = tuple(step * (size - 1) // 2 for size, step in zip(kernel, rate))
    return _CONVOLUTIONS[dimensions](
        inputs, outputs, tuple(kernel), tuple(stride), padding, dilation=tuple(rate), bias=False
    )


def enlarge(x: Tensor, size: Sequence[int], *, mode: str = "linear") -> Tensor:
    """Return `x` (B, C, ...) interpolated to `size` voxels, `linear` or `nearest`, in the type that it came in.

    `nearest` is meant for whole factors; for others it shifts by part of a voxel.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if mode == "nearest":
        return F.interpolate(x, size=tuple(size), mode="nearest").to(x.dtype)
    linear = "trilinear" if x.dim() == 5 else "bilinear"
    # A card interpolates in float32 whatever comes in; what follows should not pay for that.
    return F.interpolate(x, size=tuple(size), mode=linear, align_corners=False).to(x.dtype)


class ConvNormAct(nn.Module):
    """Convolution, instance norm and leaky ReLU (the last can be left to the caller)."""

    def __init__(
        self,
        dimensions: int,
        inputs: int,
        *,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        activate: bool = True,
    ):
        super().__init__()
        self.conv = convolution(dimensions, inputs, outputs, kernel=kernel, stride=stride)
        self.norm = InstanceNorm(outputs, slope=SLOPE if activate else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) of `size / stride` voxels an axis."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut of average pooling and a 1x1 convolution (each only where needed).

    Source:
        He et al. 2019, arXiv:1812.01187 (ResNet-D), as the residual-encoder U-Net uses it (Isensee et al. 2024,
        arXiv:2404.09556); checked against dynamic-network-architectures.
    """

    def __init__(self, dimensions: int, inputs: int, *, outputs: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        ones = (1,) * dimensions
        self.first = ConvNormAct(dimensions, inputs, outputs=outputs, kernel=kernel, stride=stride)
        self.second = ConvNormAct(dimensions, outputs, outputs=outputs, kernel=kernel, stride=ones, activate=False)
        shortcut: list[nn.Module] = []
        if math.prod(stride) > 1:
            shortcut.append(_POOLS[dimensions](tuple(stride), tuple(stride)))
        if inputs != outputs:
            shortcut += [pointwise(dimensions, inputs, outputs, bias=False), InstanceNorm(outputs)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) of `size / stride` voxels an axis."""
        return F.leaky_relu_(self.second(self.first(x)) + self.shortcut(x), SLOPE)


class AttentionGate(nn.Module):
    """Weighs the voxels of a skip by how well they agree with the coarser features below it.

    The agreement is computed on the coarser grid, where it is cheap, and interpolated to the skip's.

    Source:
        Oktay et al. 2018, arXiv:1804.03999, equations 1 and 2 and figure 2; instance norm instead of batch norm.
    """

    def __init__(self, dimensions: int, skip: int, *, below: int, stride: Sequence[int]):
        super().__init__()
        between = max(1, skip // 2)
        self.from_skip = _CONVOLUTIONS[dimensions](skip, between, tuple(stride), tuple(stride), bias=False)
        self.from_below = pointwise(dimensions, below, between)
        self.agreement = pointwise(dimensions, between, 1)
        self.mix = pointwise(dimensions, skip, skip)
        self.norm = InstanceNorm(skip)
        self.mode = "trilinear" if dimensions == 3 else "bilinear"

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return the gated skip.

        Args:
            skip: (B, skip, ...).
            below: (B, below, ...), `stride` times shorter an axis.
        """
        both = F.relu_(self.from_skip(skip).add_(self.from_below(below)))
        gate = torch.sigmoid(self.agreement(both))
        gate = F.interpolate(gate, size=skip.shape[2:], mode=self.mode, align_corners=False)
        return self.norm(self.mix(skip * gate.to(skip.dtype)))


def initialise(network: nn.Module) -> None:
    """Draw the weights of every convolution (He, leaky ReLU), zero the biases, and start residual blocks as identity.

    Source:
        He et al. 2015, arXiv:1502.01852; the zeroed last scale is Goyal et al. 2017, arXiv:1706.02677.
    """
    for module in network.modules():
        if isinstance(module, _ConvNd):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)


class NothingDrawn(TorchFunctionMode):
    """Writes zeros where random numbers would be drawn.

    Besides the time of drawing them this saves that of loading torch's compiler, which knows how to draw numbers for
    tensors without memory: more than a second.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run any other function as always."""
        if func in _DRAWING:
            return (args[0] if args else (kwargs or {})["tensor"]).detach().zero_()
        return func(*args, **(kwargs or {}))


# A function that torch lets modes see runs without them, so what it calls is not enough.
_DRAWING = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
