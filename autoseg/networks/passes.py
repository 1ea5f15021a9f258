"""What networks say of windows of an image: the sum over networks and flips, each flipped back."""

# C channel, K output channels, F fields, Z Y X voxel, n patches computed at once

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.networks.patches import window_of
from autoseg.networks.step import autocast
from autoseg.records.errors import UserError

Axes = tuple[int, ...]
Start = tuple[int, ...]


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
class Setting:
    """How windows are computed: the mean over windows, flips and networks.

    Windows overlap by `1 - step_fraction`, spread evenly from edge to edge, and weigh less towards their borders (a
    Gaussian, sigma 1/8 of the patch).

    Attributes:
        networks: On `device`; all see the same windows.
        patch: Voxels of a window along (z, y, x), z = 1 for 2D networks.
        dimensions: 2 or 3, of the networks.
        flips: Axes that each pass over a window is flipped along; () is the window as it is.
        step_fraction: Distance between windows over the patch, above 0, at most 1.
        precision: Of the networks; sums are float32.
        device: Where to compute.
        window_batch: Patches (windows times flips) computed at once.
        merge: One field for the mean of the networks instead of one a network.
        swap: Channels that a flip exchanges.
        cancel: Asked before each batch; True stops.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z (inference).
    """

    networks: tuple[nn.Module, ...]
    patch: tuple[int, ...]
    dimensions: int
    flips: tuple[Axes, ...] = ((),)
    step_fraction: float = 0.5
    precision: str = "float32"
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    window_batch: int = 1
    merge: bool = True
    swap: Swap | None = None
    cancel: Callable[[], bool] | None = None


def flips_along(axes: Sequence[int], dimensions: int) -> tuple[Axes, ...]:
    """Return every subset of the axes, none first; 2D networks are never flipped along z."""
    there = [axis for axis in sorted(axes) if dimensions == 3 or axis > 0]
    return tuple(subset for count in range(len(there) + 1) for subset in itertools.combinations(there, count))


def computed(
    setting: Setting, image: Tensor, windows: Sequence[Start]
) -> Iterator[tuple[Sequence[Start], list[Tensor]]]:
    """Yield a few windows at a time with their logits, a tensor (n, K, *patch) a field.

    Args:
        setting: How.
        image: Network input, (C, Z, Y, X), nowhere shorter than the patch.
        windows: Where they start.

    Raises:
        UserError: `cancel` said so.
    """
    size = max(1, setting.window_batch // len(setting.flips))
    for first in range(0, len(windows), size):
        starts = windows[first : first + size]
        # Around all networks and flips: weights are converted once a window, not once a pass.
        with autocast(setting.device, setting.precision):
            logits = _logits(setting, image, starts)
        yield starts, logits


@contextlib.contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode while the block runs."""
    training = [network for network in networks if network.training]
    for network in training:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()


# Not around the generators: between two rows their callers would compute without gradients as well.
@torch.inference_mode()
def _logits(setting: Setting, image: Tensor, starts: Sequence[Start]) -> list[Tensor]:
    """Return a tensor (n, K, *patch) a field: the passes over each window, flipped back and added up.

    Each window is read once, whatever the number of networks and flips.
    """
    windows = torch.stack([window_of(image, start, setting.patch) for start in starts])
    windows = windows.to(setting.device, torch.float32)
    at_once = max(1, setting.window_batch // len(starts))
    found: list[Tensor] = []
    for number, network in enumerate(setting.networks):
        for first in range(0, len(setting.flips), at_once):
            if setting.cancel is not None and setting.cancel():
                raise UserError("the prediction was cancelled", code="cancelled")
            flips = setting.flips[first : first + at_once]
            batch = torch.cat([_seen(windows, axes, setting.swap) for axes in flips])
            logits = _forward(network, batch, setting).unflatten(0, (len(flips), len(starts)))
            for axes, result in zip(flips, logits):
                straight = _straight(result, axes, setting.swap)
                field = 0 if setting.merge else number
                if field < len(found):
                    found[field] += straight
                else:
                    single = len(setting.flips) == 1 and (len(setting.networks) == 1 or not setting.merge)
                    found.append(straight if single else straight.float().clone())
    return found


def _forward(network: nn.Module, patches: Tensor, setting: Setting) -> Tensor:
    """Return the logits (n, K, *patch) of one network."""
    logits = network(patches[:, :, 0] if setting.dimensions == 2 else patches)
    logits = logits if isinstance(logits, Tensor) else logits[0]
    return logits[:, :, None] if setting.dimensions == 2 else logits


def _flip(windows: Tensor, axes: Axes) -> Tensor:
    return windows.flip([axis - 3 for axis in axes]) if axes else windows


def _seen(windows: Tensor, axes: Axes, swap: Swap | None) -> Tensor:
    """Return windows as the network sees them when they are flipped."""
    flipped = _flip(windows, axes)
    if swap is not None and swap.inputs and swap.axis in axes:
        return flipped[:, list(swap.inputs)]
    return flipped


def _straight(logits: Tensor, axes: Axes, swap: Swap | None) -> Tensor:
    back = _flip(logits, axes)
    if swap is not None and swap.axis in axes:
        back = back[:, list(swap.channels)]
    return back
