"""Whole-image logits from overlapping patches, mirrored or not, of one network or the mean of several."""

# C channel, K output channels, Z Y X voxel, n patches computed at once

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.step import autocast
from autoseg.records.errors import UserError
from autoseg.records.geometry import Shape

WEIGHT_FLOOR = 1e-4
SIGMA_FRACTION = 1 / 8
# A CPU gains nothing from larger batches than this (measured: a U-Net at 40x56x40, one core, 1 to 8 patches at once:
# 53 to 75 ms a patch in bfloat16); a card has to be kept busy.
BATCH_VOXELS = {"cpu": 2**17}
BATCH_VOXELS_ON_CARD = 2**21
FREE_FRACTION = 0.5

Axes = tuple[int, ...]


@dataclass(frozen=True)
class _Pass:
    """One patch to compute: where it starts along (z, y, x), and the axes that it is flipped along."""

    start: tuple[int, ...]
    flipped: Axes


@dataclass(frozen=True)
class Swap:
    """What a flip along `axis` does: output channel k is what channel `channels[k]` was, and so of the input.

    Attributes:
        inputs: The same of the input's channels (a cascade's structures); empty where none change places.
    """

    axis: int
    channels: tuple[int, ...]
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Setting:
    """How patches are computed; `merge`: one field for the mean of the networks instead of one a network."""

    networks: tuple[nn.Module, ...]
    patch: tuple[int, ...]
    dimensions: int
    device: torch.device
    precision: str
    merge: bool
    swap: Swap | None = None


def predict(
    networks: Sequence[nn.Module],
    image: Tensor | np.ndarray,
    patch_shape: Shape,
    *,
    dimensions: int,
    mirror_axes: Sequence[int],
    step_fraction: float = 0.5,
    precision: str = "float32",
    device: torch.device | str = "cpu",
    window_batch: int | None = None,
    cancel: Callable[[], bool] | None = None,
    swap: Swap | None = None,
) -> Tensor:
    """Return the mean of the networks' logits over the whole image: float32, (K, Z, Y, X), on the CPU.

    Windows overlap by `1 - step_fraction`, spread evenly from edge to edge, and weigh less towards their borders
    (a Gaussian, sigma 1/8 of the patch). Each window is also seen flipped along every subset of `mirror_axes`. An
    image smaller than the patch is padded with zeros on both sides, and the result is cut back.

    Args:
        networks: On `device`; all see the same windows. Their training mode is restored afterwards.
        image: Normalised, (C, Z, Y, X).
        patch_shape: (z, y, x), z = 1 for 2D networks.
        dimensions: 2 or 3, of the networks.
        mirror_axes: 0 z, 1 y, 2 x; 2D networks are never flipped along z.
        step_fraction: Distance between windows over the patch, above 0, at most 1.
        precision: `float32`, `bfloat16` or `float16`, of the networks; sums are float32.
        device: Where to compute.
        window_batch: Patches (windows times flips) computed at once; None chooses.
        cancel: Asked before each batch; True stops.
        swap: Channels that a flip exchanges: structures left and right of one another.

    Raises:
        UserError: The networks gave non-finite values, or `cancel` said so.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (inference).
    """
    setting = _Setting(tuple(networks), tuple(patch_shape), dimensions, torch.device(device), precision, True, swap)
    passes = _passes(image.shape[1:], setting, mirror_axes, step_fraction)
    return _compute(setting, image, passes, window_batch, cancel)[0]


def predict_each(
    networks: Sequence[nn.Module],
    image: Tensor | np.ndarray,
    patch_shape: Shape,
    *,
    dimensions: int,
    mirror_axes: Sequence[int],
    step_fraction: float = 0.5,
    precision: str = "float32",
    device: torch.device | str = "cpu",
    window_batch: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[Tensor]:
    """Return what `predict` does, but for each network by itself, from one pass over the windows."""
    setting = _Setting(tuple(networks), tuple(patch_shape), dimensions, torch.device(device), precision, merge=False)
    passes = _passes(image.shape[1:], setting, mirror_axes, step_fraction)
    return _compute(setting, image, passes, window_batch, cancel)


def window_starts(size: int, patch: int, step_fraction: float) -> tuple[int, ...]:
    """Return where windows start along an axis of `size` >= `patch` voxels: evenly spread from edge to edge."""
    step = max(1.0, patch * step_fraction)
    count = math.ceil((size - patch) / step) + 1
    if count == 1:
        return (0,)
    return tuple(round(index * (size - patch) / (count - 1)) for index in range(count))


def importance(patch_shape: Sequence[int]) -> Tensor:
    """Return the weight of each voxel of a patch, 1 at its centre: float32, `patch_shape`."""
    weight = torch.ones(())
    for size in patch_shape:
        offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (offset / (size * SIGMA_FRACTION)) ** 2)
    # The corners of a patch must still count where no other window reaches.
    return (weight / weight.max()).clamp(min=WEIGHT_FLOOR)


def _passes(shape: Sequence[int], setting: _Setting, mirror_axes: Sequence[int], step_fraction: float) -> list[_Pass]:
    axes = [axis for axis in sorted(mirror_axes) if setting.dimensions == 3 or axis > 0]
    flips = [subset for count in range(len(axes) + 1) for subset in itertools.combinations(axes, count)]
    starts = [window_starts(max(size, patch), patch, step_fraction) for size, patch in zip(shape, setting.patch)]
    return [_Pass(start, flipped) for start in itertools.product(*starts) for flipped in flips]


def _compute(
    setting: _Setting,
    image: Tensor | np.ndarray,
    passes: Sequence[_Pass],
    window_batch: int | None,
    cancel: Callable[[], bool] | None,
) -> list[Tensor]:
    """Return the logits of the mean of the networks, or of each: float32, (K, Z, Y, X), on the CPU."""
    padded, margins = _pad(_as_tensor(image).to(setting.device, torch.float32), setting.patch)
    # With one window the weights cancel.
    weight = importance(setting.patch) if len({item.start for item in passes}) > 1 else torch.ones(setting.patch)
    fields: list[Tensor] = []
    with torch.inference_mode(), _evaluating(setting.networks):
        for batch in _batches(passes, window_batch or _window_batch(setting)):
            if cancel is not None and cancel():
                raise UserError("the prediction was cancelled", code="cancelled")
            for index, network in enumerate(setting.networks):
                logits = _forward(network, padded, batch, setting)
                field = 0 if setting.merge else index
                if field == len(fields):
                    fields.append(_empty_field(len(logits[0]), padded.shape[1:], setting))
                _add(fields[field], logits, batch, weight.to(fields[field].device), setting.swap)
        total = _total_weight(padded.shape[1:], passes, weight) * (len(setting.networks) if setting.merge else 1)
        return [_finish(field, total, image.shape[1:], margins) for field in fields]


def _as_tensor(image: Tensor | np.ndarray) -> Tensor:
    # A copy: an array read from a store may be read-only, which torch would warn of.
    return image if isinstance(image, Tensor) else torch.tensor(np.ascontiguousarray(image))


def _forward(network: nn.Module, image: Tensor, batch: Sequence[_Pass], setting: _Setting) -> Tensor:
    """Return the logits (n, K, *patch) of one network, flipped back."""
    patches = torch.stack([_seen(image, item, setting) for item in batch])
    with autocast(setting.device, setting.precision):
        logits = network(patches[:, :, 0] if setting.dimensions == 2 else patches)
    logits = logits if isinstance(logits, Tensor) else logits[0]
    logits = logits.float()
    return logits[:, :, None] if setting.dimensions == 2 else logits


def _seen(image: Tensor, item: _Pass, setting: _Setting) -> Tensor:
    """Return the window of a pass as the network sees it, (C, *patch)."""
    window = _window(image, item.start, setting.patch).flip(_spatial(item))
    swap = setting.swap
    if swap is not None and swap.inputs and swap.axis in item.flipped:
        return window[list(swap.inputs)]
    return window


def _add(field: Tensor, logits: Tensor, batch: Sequence[_Pass], weight: Tensor, swap: Swap | None) -> None:
    for item, patch in zip(batch, logits):
        straight = patch.flip(_spatial(item)).to(field.device)
        if swap is not None and swap.axis in item.flipped:
            straight = straight[list(swap.channels)]
        _window(field, item.start, weight.shape).addcmul_(straight, weight.expand_as(straight))


def _finish(field: Tensor, total: Tensor, shape: Sequence[int], margins: Sequence[int]) -> Tensor:
    result = _window(field.div_(total.to(field.device)), margins, shape).cpu().contiguous()
    if not all(bool(torch.isfinite(channel).all()) for channel in result):
        raise UserError(
            "the network gave non-finite values",
            fix="Predict in float32; if that does not help, train the model again.",
            code="non_finite_logits",
        )
    return result


def _total_weight(shape: Sequence[int], passes: Sequence[_Pass], weight: Tensor) -> Tensor:
    total = torch.zeros(tuple(shape))
    starts = {item.start for item in passes}
    for start in sorted(starts):
        _window(total, start, weight.shape).add_(weight)
    return total * (len(passes) / len(starts))


def _pad(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the image with zeros on both sides of axes shorter than the patch, and how many come first."""
    missing = [max(0, size - there) for size, there in zip(patch, image.shape[1:])]
    before = tuple(count // 2 for count in missing)
    sides = [side for first, count in zip(reversed(before), reversed(missing)) for side in (first, count - first)]
    return functional.pad(image, sides), before


def _window(tensor: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return the part of the last three axes that begins at `start`, as a view."""
    z, y, x = (slice(first, first + size) for first, size in zip(start, shape))
    return tensor[..., z, y, x]


def _spatial(item: _Pass) -> list[int]:
    return [axis - 3 for axis in item.flipped]


def _batches(passes: Sequence[_Pass], size: int) -> Iterator[Sequence[_Pass]]:
    for start in range(0, len(passes), size):
        yield passes[start : start + size]


def _window_batch(setting: _Setting) -> int:
    voxels = BATCH_VOXELS.get(setting.device.type, BATCH_VOXELS_ON_CARD)
    return max(1, voxels // math.prod(setting.patch))


def _empty_field(classes: int, shape: Sequence[int], setting: _Setting) -> Tensor:
    """Return zeros (K, Z, Y, X): on the device where all fields fit into half of what is free, else on the CPU."""
    device, shape = torch.device("cpu"), (classes, *shape)
    if setting.device.type == "cuda":
        needed = 4 * math.prod(shape) * (1 if setting.merge else len(setting.networks))
        free, _ = torch.cuda.mem_get_info(setting.device)
        device = setting.device if needed < FREE_FRACTION * free else device
    return torch.zeros(shape, device=device)


@contextlib.contextmanager
def _evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode while the block runs."""
    training = [network for network in networks if network.training]
    for network in training:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()
