"""What a training step computes by kind of operation and data type: counted on fake tensors, without doing it."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoseg.networks.catalog import build
from autoseg.networks.memory import training_step
from autoseg.networks.tracking import CardAutocast, operations
from autoseg.records.calibration import Amount, Kind, Precision, StepWork
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape
from autoseg.records.preset import Recipe

THIN_BELOW = 16
_CONVOLUTIONS = ("convolution", "convolution_backward")
_NAMES: Mapping[torch.dtype, Precision] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}

Row = tuple[Kind, int, int, int, Precision]
# Operators that are bound by memory, by what stands in their names; what is named nowhere is elementwise.
_BOUND_BY_MEMORY: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("optimizer", ("_fused_", "_foreach_")),
    ("exponential", ("softmax", "exp", "log", "pow", "sigmoid", "tanh", "gelu", "silu", "erf", "sqrt", "softplus")),
    ("index", ("gather", "scatter", "index", "nll_loss", "one_hot", "upsample", "pool", "embedding", "grid_sampler")),
    ("copy", ("copy", "clone", "cat", "pad", "fill", "zero", "ones", "stack", "roll", "repeat", "full")),
)
# What fake tensors ask one another (their device), and what only names or makes room.
_DOES_NOTHING = frozenset(
    (
        "device",
        "detach",
        "empty",
        "empty_like",
        "new_empty",
        "empty_strided",
        "new_empty_strided",
        "resize_",
        "_record_function_enter_new",
        "_record_function_exit",
    )
)


class WorkCounter(TorchDispatchMode):
    """Adds up what every operator computes, by kind; fake or real tensors alike.

    Attributes:
        amounts: (kind, dimensions, width, taps, precision), and the power of two that a call's amount lies under ->
            operators and their floating-point operations or bytes together.
        calls: Operators that touched voxels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.amounts: defaultdict[tuple[Row, int], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and note what it did."""
        kwargs = dict(kwargs or {})
        result = self.run(func, args, kwargs)
        if not _is_view(func) and func._overloadpacket.__name__ not in _DOES_NOTHING:
            self.note(*_count(func, args, kwargs, result))
        return result

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operator returns; whoever times operators does it here."""
        return func(*args, **kwargs)

    def note(self, row: Row, amount: float) -> None:
        """Add one call to those of its kind and size."""
        self.calls += 1
        size = (row, math.frexp(amount)[1])
        calls, sum_before = self.amounts[size]
        self.amounts[size] = (calls + 1, sum_before + amount)

    def work(self) -> StepWork:
        """Return what was counted, in a fixed order."""
        rows = (
            Amount(
                kind=kind,
                dimensions=dimensions,
                width=width,
                precision=precision,
                amount=amount,
                calls=calls,
                taps=taps,
            )
            for ((kind, dimensions, width, taps, precision), _), (calls, amount) in sorted(self.amounts.items())
        )
        return StepWork(amounts=tuple(row for row in rows if row.amount > 0), calls=self.calls)


def measure_work(
    architecture: Architecture,
    recipe: Recipe,
    patch_shape: Shape,
    batch_size: int,
    *,
    precision: str = "bfloat16",
    device_kind: str = "cuda",
) -> StepWork:
    """Return what one training step computes; arguments as of `memory.measure_step`.

    Raises:
        UsageError: The architecture is wrong (see `catalog.build`).
    """
    counter = WorkCounter()
    autocast = CardAutocast() if device_kind == "cuda" else contextlib.nullcontext()
    with FakeTensorMode(), autocast:
        network = build(architecture)
        step = training_step(network, architecture=architecture, recipe=recipe, precision=precision)
        image = torch.zeros(batch_size, architecture.input_channels, *patch_shape)
        with counter:
            step(image)
    return counter.work()


def _is_view(func: Any) -> bool:
    return any(item.alias_info is not None and not item.alias_info.is_write for item in func._schema.returns)


def _count(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> tuple[Row, float]:
    name = func._overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
    floats = [item.dtype for item in tensors if item.dtype in _NAMES]
    # A conversion reads one type and writes another; the narrower one says what the step computes in.
    precision = _NAMES[min(floats, key=lambda kind: kind.itemsize)] if floats else "float32"
    flops = operations(func, args, kwargs, result=result)
    if name in _CONVOLUTIONS:
        return _convolution(args, name == "convolution_backward", precision), flops
    if flops > 0:
        return ("attention" if "attention" in name else "matmul", 0, 0, 0, precision), flops
    kind: Kind = "norm" if "norm" in name and "native" in name else _memory_kind(name)
    return (kind, 0, 0, 0, precision), float(sum(item.numel() * item.element_size() for item in tensors))


def _memory_kind(name: str) -> Kind:
    for kind, parts in _BOUND_BY_MEMORY:
        if any(part in name for part in parts):
            return kind
    return "elementwise"


def _convolution(args: Sequence[Any], backward: bool, precision: Precision) -> Row:
    weight, (_, stride, _, _, transposed, _, groups) = (args[2], args[3:10]) if backward else (args[1], args[2:9])
    dimensions, taps = weight.dim() - 2, math.prod(weight.shape[2:])
    width = min(weight.shape[0], weight.shape[1])
    if groups > 1:
        apart: Kind = "depthwise_strided" if max(stride) > 1 else "depthwise"
        return "depthwise_transposed" if transposed else apart, dimensions, groups, taps, precision
    if transposed:
        return "transposed", dimensions, width, taps, precision
    if width < THIN_BELOW:
        return "thin", dimensions, 0, taps, precision
    return "pointwise" if taps == 1 else "dense", dimensions, width, 0, precision
