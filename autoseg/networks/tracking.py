"""Two modes under which torch runs as always while bytes and operations are counted."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

from autoseg.networks import blocks

# torch's allocator on a card hands out multiples of this.
GRAIN_BYTES = 512
# Channels that lie side by side in oneDNN's layouts.
BLOCK = 16


class StorageTracker(TorchDispatchMode):
    """Follows every storage that an operator makes, from its making to its end; fake or real tensors alike.

    Attributes:
        live_bytes: Held now.
        peak_bytes: Held at the worst moment since `restart`.
        flops: Of convolutions, matrix products and attention since `restart`.
    """

    def __init__(self, *, fake: bool = False, blocked: bool = False) -> None:
        """Begin at zero.

        Args:
            fake: Tensors have no content: what is slow to follow on them and known in advance is not computed.
            blocked: Whether convolutions hold copies of their input and output as they do on a CPU.
        """
        super().__init__()
        self._blocked = blocked
        self._fake = fake
        self.live_bytes = 0
        self.peak_bytes = 0
        self.flops = 0.0
        self._seen: set[int] = set()

    def restart(self) -> None:
        """Forget the peak and the operations, but not what is held."""
        self.peak_bytes = self.live_bytes
        self.flops = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and note what it made."""
        if func is torch.ops.prim.device.default:  # by far the most frequent, and makes nothing
            return _device(args[0]) if self._fake else func(*args)
        kwargs = dict(kwargs or {})
        result = (_without_content if self._fake else _run)(func, args, kwargs)
        self.flops += operations(func, args, kwargs, result=result)
        for leaf in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        copies = _blocked_bytes(func, args, result) if self._blocked else 0
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + copies)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled under this mode; the guard that torch adds otherwise takes its time at every operator.
        return False

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = -(-storage.nbytes() // GRAIN_BYTES) * GRAIN_BYTES
        self._seen.add(key)
        self.live_bytes += size
        weakref.finalize(storage, self._release, key, size).atexit = False

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live_bytes -= size


def _blocked_bytes(func: Any, args: Sequence[Any], result: Any) -> int:
    """Return the bytes of the copies that oneDNN computes a convolution in: channels in blocks of a vector."""
    if func._overloadpacket.__name__ != "convolution":
        return 0
    return sum(
        item.numel() // item.shape[1] * (-(-item.shape[1] // BLOCK) * BLOCK) * item.element_size()
        for item in (args[0], result)
    )


def _group_norm_backward(
    gradient: Tensor, image: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, *sizes: Any
) -> tuple[Tensor | None, ...]:
    # torch's fake kernel runs some thirty operators, and of bfloat16 input and float32 scale makes a float32 gradient,
    # where the real one makes a bfloat16 one.
    *_, wanted = sizes
    like = (image, weight, weight)
    return tuple(None if it is None or not asked else torch.empty_like(it) for it, asked in zip(like, wanted))


def _leaky_relu_backward(gradient: Tensor, image: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(gradient)


def _in_place(*_: Any, **__: Any) -> None:
    # torch has no fake kernel: it would run the real one on real tensors of every parameter's size.
    return None


# Operator -> the tensors that it makes, for tensors without content.
_KNOWN_RESULTS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.native_group_norm_backward.default: _group_norm_backward,
    torch.ops.aten.leaky_relu_backward.default: _leaky_relu_backward,
    torch.ops.aten._fused_sgd_.default: _in_place,
    torch.ops.aten._fused_adam_.default: _in_place,
    torch.ops.aten._fused_adamw_.default: _in_place,
}


_ATEN = torch.ops.aten
# Operators of one tensor that torch's shape functions answer at once. What fake tensors do around them (looking whether
# they saw the like before, by everything that is known of every argument) takes several times as long.
PLAIN = frozenset(
    (
        _ATEN.detach.default,
        _ATEN.view.default,
        _ATEN._unsafe_view.default,
        _ATEN.t.default,
        _ATEN.transpose.int,
        _ATEN.permute.default,
        _ATEN.slice.Tensor,
        _ATEN.select.int,
        _ATEN.unsqueeze.default,
        _ATEN.expand.default,
        _ATEN._to_copy.default,
    )
)


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return func(*args, **kwargs)


def _without_content(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if func in PLAIN and isinstance(args[0], FakeTensor) and "device" not in kwargs:
        return _plain(func, args, kwargs)
    return _KNOWN_RESULTS.get(func, func)(*args, **kwargs)


def _plain(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    image = args[0]
    with in_kernel_invocation_manager(image.fake_mode):
        result = func(*args, **kwargs)
    return FakeTensor(image.fake_mode, result, image.fake_device)


def _device(tensor: Tensor) -> Any:
    if not isinstance(tensor, FakeTensor):
        return torch.ops.prim.device.default(tensor)
    # Inside of a shape function a fake tensor passes for one without a device.
    return torch.device("meta") if tensor.fake_mode.in_kernel_invocation else tensor.fake_device


def operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, result: Any) -> float:
    """Return the floating-point operations of one operator; 0 for those whose arithmetic does not count."""
    packet = func._overloadpacket
    if packet is torch.ops.aten.convolution_backward and args[9] > 1:
        return _grouped_backward(*args)
    if packet in flop_registry:
        return float(flop_registry[packet](*args, **kwargs, out_val=result))
    # The CPU's attention kernels are missing from torch's table.
    name = packet.__name__
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        return _attention(args[0], args[1], args[2])
    if name == "_scaled_dot_product_flash_attention_for_cpu_backward":
        # Scores are computed once more, then four products of the same size.
        return 2.5 * _attention(args[1], args[2], args[3])
    return 0.0


def _grouped_backward(gradient: Tensor, image: Tensor, weight: Tensor, *how: Any) -> float:
    # Torch's table counts the weights' gradient of every channel against every other, groups or not: of a depthwise
    # convolution as many times too much as it has channels. Each of the two gradients takes what the forward pass took.
    *_, transposed, _, _, wanted = how
    places = math.prod((image if transposed else gradient).shape[2:])
    return sum(wanted[:2]) * 2.0 * image.shape[0] * places * weight.numel()


def _attention(query: Tensor, key: Tensor, value: Tensor) -> float:
    batch, heads, tokens, width = query.shape
    return 2.0 * batch * heads * tokens * key.shape[2] * (width + value.shape[3])


# What CUDA autocast computes in float32 and CPU autocast does not, by the functions' names.
FLOAT32_ON_A_CARD = frozenset(
    (
        "group_norm",
        "layer_norm",
        "rms_norm",
        "softmax",
        "log_softmax",
        "softplus",
        "sum",
        "prod",
        "cumsum",
        "cumprod",
        "norm",
        "logsumexp",
        "exp",
        "expm1",
        "log",
        "log10",
        "log1p",
        "log2",
        "pow",
        "__pow__",
        "__rpow__",
        "reciprocal",
        "rsqrt",
        "interpolate",
        "upsample",
        "cosine_similarity",
        "normalize",
        "nll_loss",
        "l1_loss",
        "mse_loss",
        "smooth_l1_loss",
        "huber_loss",
        "kl_div",
        "binary_cross_entropy_with_logits",
        "vector_norm",
        "cdist",
        "renorm",
    )
)
# The other way round.
FLOAT32_ON_A_CPU = frozenset(("avg_pool2d", "avg_pool3d", "adaptive_avg_pool3d"))


class CardAutocast(TorchFunctionMode):
    """Makes CPU autocast compute each function in the type that CUDA autocast would choose."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one function of torch as it would run on a card."""
        kwargs = dict(kwargs or {})
        if func is blocks.instance_norm:
            return blocks.instance_norm_by_batch(*args, **kwargs)
        if func is blocks.checkpointed:
            return checkpoint(*args, use_reentrant=False, preserve_rng_state=False, context_fn=_both_times)
        name = getattr(func, "__name__", "")
        if torch.is_autocast_enabled("cpu") and (name in FLOAT32_ON_A_CARD or name in FLOAT32_ON_A_CPU):
            return _outside_autocast(func, args, kwargs, widen=name in FLOAT32_ON_A_CARD)
        return func(*args, **kwargs)


def _both_times() -> tuple[CardAutocast, CardAutocast]:
    # A function runs without the mode that caught it, and so does the backward pass.
    return CardAutocast(), CardAutocast()


def _outside_autocast(func: Callable[..., Any], args: Any, kwargs: Any, *, widen: bool) -> Any:
    if widen:
        args, kwargs = tree_map_only(Tensor, _float32, (args, kwargs))
    with torch.autocast("cpu", enabled=False):
        return func(*args, **kwargs)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
