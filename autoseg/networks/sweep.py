"""Logits of a whole image from overlapping windows, in slabs that are handed on as soon as no window reaches them.

Only the slab under the windows is held: classes x patch depth x the image's cross-section, or a tile of it. Every
voxel adds up the same numbers in the same order however the image is cut, so tiles do not change a bit.
"""

# C channel, K output channels, F fields, Z Y X voxel, n patches computed at once

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.heads import Head, feature_count, heads_of, put_off, without_head
from autoseg.networks.step import autocast
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box

WEIGHT_FLOOR = 1e-4
SIGMA_FRACTION = 1 / 8
# Finished rows are handed on a few at a time, so that a copy of them stays small.
ROWS_AT_ONCE = 8
# So many are read of them at once, where each becomes a hundred classes only then.
ROWS_READ = 4

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


@dataclass
class Rows:
    """What a sweep has finished along its axis, read forwards; what lies behind the last reading is let go.

    With a `head`, what is finished are features, which become logits as they are read.
    """

    finished: Iterator[tuple[int, Tensor]]
    axis: int
    head: Head | None = None
    kept: list[tuple[int, Tensor]] = field(default_factory=list)

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` along the axis, (F, K, ...); `start` never lies before an earlier one."""
        rows = self._gather(start, stop)
        if self.head is None:
            return rows
        logits = self.head.logits(rows)
        _require_finite(logits)
        return logits

    def _gather(self, start: int, stop: int) -> Tensor:
        dimension = self.axis - 3
        self.kept = [(first, block) for first, block in self.kept if first + block.shape[dimension] > start]
        while not self.kept or self.kept[-1][0] + self.kept[-1][1].shape[dimension] < stop:
            first, block = next(self.finished)
            if first + block.shape[dimension] > start:
                self.kept.append((first, block))
        parts = []
        for first, block in self.kept:
            low, high = max(first, start), min(first + block.shape[dimension], stop)
            if low < high:
                parts.append(block.narrow(dimension, low - first, high - low))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dimension)


def flips_along(axes: Sequence[int], dimensions: int) -> tuple[Axes, ...]:
    """Return every subset of the axes, none first; 2D networks are never flipped along z."""
    there = [axis for axis in sorted(axes) if dimensions == 3 or axis > 0]
    return tuple(subset for count in range(len(there) + 1) for subset in itertools.combinations(there, count))


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


def sweep_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """Return the axis along which the slab under a window is the smallest share of the image; ties to the first."""
    return min(range(3), key=lambda axis: min(1.0, patch[axis] / shape[axis]))


def sweep(setting: Setting, image: Tensor, axis: int, part: Box | None = None) -> Rows:
    """Return the logits of an image, computed as they are read along `axis`.

    Args:
        setting: How.
        image: Normalised float32, (C, Z, Y, X); padded with zeros on both sides where it is smaller than the patch.
        axis: 0, 1 or 2.
        part: Only this part is computed across the axis (whole along it); None means everything.

    Returns:
        Rows (F, K, ...) along `axis`, on the setting's device, float32.

    Raises:
        UserError: While reading: the networks gave non-finite values, or `cancel` said so.
    """
    part = part or Box(start=(0, 0, 0), stop=tuple(image.shape[1:]))
    if not puts_off_heads(setting.networks, swap=setting.swap, merge=setting.merge):
        return Rows(_finished(setting, image, axis, part), axis)
    head = heads_of(setting.networks, setting.device, merge=setting.merge)
    bodies = replace(setting, networks=tuple(map(without_head, setting.networks)), merge=False)
    return Rows(_finished(bodies, image, axis, part), axis, head)


def puts_off_heads(networks: Sequence[nn.Module], *, swap: Swap | None, merge: bool = True) -> bool:
    """Whether windows are added up before the networks' last layer, because there is less to hold."""
    return swap is None and put_off(networks, merge=merge)  # channels that a flip exchanges are logits


def count_windows(shape: Sequence[int], setting: Setting, axis: int, part: Box | None = None) -> int:
    """Return how many windows a sweep computes."""
    part = part or Box(start=(0, 0, 0), stop=tuple(shape))
    along, across = _places(shape, setting, axis, part)
    return len(along) * len(across)


def buffer_bytes(setting: Setting, classes: int, axis: int, part_shape: Sequence[int]) -> int:
    """Return the bytes that a sweep holds beside the networks: the slab under the windows, and rows handed on.

    Args:
        setting: Of the sweep.
        classes: Output channels of a network.
        axis: Along which it is read.
        part_shape: (Z, Y, X) of what is read.
    """
    across = math.prod(size for other, size in enumerate(part_shape) if other != axis)
    fields = 1 if setting.merge else len(setting.networks)
    if not puts_off_heads(setting.networks, swap=setting.swap, merge=setting.merge):
        return 4 * (fields * classes + 1) * (setting.patch[axis] + 2 * ROWS_AT_ONCE) * across
    features = feature_count(setting.networks)
    return 4 * ((features + 1) * (setting.patch[axis] + 2 * ROWS_AT_ONCE) + fields * classes * ROWS_READ) * across


def _finished(setting: Setting, image: Tensor, axis: int, part: Box) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, rows) of the part in order along the axis; rows are divided by their weights."""
    padded, margins = pad(image, setting.patch)
    low = tuple(a + margin for a, margin in zip(part.start, margins))
    high = tuple(b + margin for b, margin in zip(part.stop, margins))
    along, across = _places(image.shape[1:], setting, axis, part)
    weight = _weight(image.shape[1:], setting)
    passes = len(setting.flips) * (len(setting.networks) if setting.merge else 1)
    groups = _groups(along, len(across), setting, axis)
    depth = max(group[-1] - group[0] for group in groups) + setting.patch[axis]
    total = torch.zeros(_sizes(_frame(low, high, axis, 0, depth)))
    slab: Tensor | None = None
    with evaluating(setting.networks):
        for place, group in enumerate(groups):
            frame = _frame(low, high, axis, group[0], depth)
            windows = [_with(item, axis, start) for start in group for item in across]
            for starts, logits in _computed(setting, padded, windows):
                if slab is None:
                    slab = torch.zeros((len(logits), logits[0].shape[1], *total.shape), device=setting.device)
                for number, item in enumerate(starts):
                    _add([found[number] for found in logits], item, weight, slab=slab, total=total, frame=frame)
            assert slab is not None
            after = groups[place + 1][0] if place + 1 < len(groups) else group[0] + depth
            last = min(after, high[axis])
            for first in range(max(group[0], low[axis]), last, ROWS_AT_ONCE):
                count = min(ROWS_AT_ONCE, last - first)
                weights = total.narrow(axis, first - group[0], count) * passes
                rows = slab.narrow(axis - 3, first - group[0], count) / weights.to(slab.device)
                _require_finite(rows)
                yield first - margins[axis], rows
            _roll(slab, axis, after - group[0])
            _roll(total, axis, after - group[0])


def _groups(along: Sequence[int], across: int, setting: Setting, axis: int) -> list[Sequence[int]]:
    """Return the starts along the axis that are computed together: several slices of 2D networks, else one."""
    at_once = max(1, setting.window_batch // len(setting.flips))
    count = max(1, at_once // across) if setting.patch[axis] == 1 else 1
    return [along[first : first + count] for first in range(0, len(along), count)]


def _computed(
    setting: Setting, image: Tensor, windows: Sequence[Start]
) -> Iterator[tuple[Sequence[Start], list[Tensor]]]:
    """Yield a few windows at a time with their logits, a tensor (n, K, *patch) a field."""
    size = max(1, setting.window_batch // len(setting.flips))
    for first in range(0, len(windows), size):
        starts = windows[first : first + size]
        # Around all networks and flips: weights are converted once a window, not once a pass.
        with autocast(setting.device, setting.precision):
            logits = _logits(setting, image, starts)
        yield starts, logits


def _places(shape: Sequence[int], setting: Setting, axis: int, part: Box) -> tuple[tuple[int, ...], list[Start]]:
    """Return the starts along the axis, and those across it (0 along it) of windows that reach the part."""
    _, margins = _missing(shape, setting.patch)
    starts = [
        window_starts(max(size, patch), patch, setting.step_fraction) for size, patch in zip(shape, setting.patch)
    ]
    reach = [
        [s for s in every if s < stop + margin and s + patch > start + margin]
        for every, start, stop, margin, patch in zip(starts, part.start, part.stop, margins, setting.patch)
    ]
    reach[axis] = [0]
    return starts[axis], list(itertools.product(*reach))


def _weight(shape: Sequence[int], setting: Setting) -> Tensor:
    # With one window the weights cancel.
    alone = all(size <= patch for size, patch in zip(shape, setting.patch))
    weight = torch.ones(setting.patch) if alone else importance(setting.patch)
    return weight.to(setting.device)


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


def _add(
    fields: Sequence[Tensor], start: Start, weight: Tensor, *, slab: Tensor, total: Tensor, frame: tuple[Start, Start]
) -> None:
    """Add the logits of one window, weighted, to the slab (F, K, ...) that lies at `frame`."""
    inner = [(max(s, low), min(s + size, high)) for s, size, low, high in zip(start, weight.shape, frame[0], frame[1])]
    here = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, start))
    there = tuple(slice(a - low, b - low) for (a, b), low in zip(inner, frame[0]))
    share = weight[here]
    total[there] += share.to(total.device)
    for target, logits in zip(slab, fields):
        # Class by class: a float32 copy of a hundred classes would be as large as the slab.
        for layer, value in zip(target, logits):
            layer[there].addcmul_(value[here].float(), share)


def _require_finite(rows: Tensor) -> None:
    # A sum shows nan and inf at once; it may overflow by itself, so what it says is looked at again.
    if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
        raise UserError(
            "the network gave non-finite values",
            fix="Predict in float32; if that does not help, train the model again.",
            code="non_finite_logits",
        )


def _roll(tensor: Tensor, axis: int, steps: int) -> None:
    """Move rows `steps` towards the front in place, zeros behind them; as many rows at a time as do not overlap."""
    dimension = axis - 3
    size = tensor.shape[dimension]
    for first in range(steps, size, steps):
        count = min(steps, size - first)
        tensor.narrow(dimension, first - steps, count).copy_(tensor.narrow(dimension, first, count))
    tensor.narrow(dimension, max(0, size - steps), min(steps, size)).zero_()


def _frame(low: Start, high: Start, axis: int, start: int, depth: int) -> tuple[Start, Start]:
    return _with(low, axis, start), _with(high, axis, start + depth)


def _sizes(frame: tuple[Start, Start]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(*frame))


def _with(start: Start, axis: int, value: int) -> Start:
    return (*start[:axis], value, *start[axis + 1 :])


def _missing(shape: Sequence[int], patch: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    missing = [max(0, size - there) for size, there in zip(patch, shape)]
    return missing, tuple(count // 2 for count in missing)


def pad(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the image with zeros on both sides of axes shorter than the patch, and how many come first."""
    missing, before = _missing(image.shape[1:], patch)
    if not any(missing):
        return image, before
    sides = [side for first, count in zip(reversed(before), reversed(missing)) for side in (first, count - first)]
    return functional.pad(image, sides), before


def window_of(tensor: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return the part of the last three axes that begins at `start`, as a view."""
    z, y, x = (slice(first, first + size) for first, size in zip(start, shape))
    return tensor[..., z, y, x]


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
