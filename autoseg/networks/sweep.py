"""Logits of a whole image from overlapping windows, in slabs that are handed on as soon as no window reaches them.

Only the slab under the windows is held: classes x patch depth x the image's cross-section, or a tile of it. Every
voxel adds up the same numbers in the same order however the image is cut, so tiles do not change a bit.
"""

# C channel, K output channels, F fields, Z Y X voxel, n patches computed at once

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from autoseg.networks.heads import Head, feature_count, heads_of, put_off, without_head
from autoseg.networks.passes import Setting, Start, Swap, computed, evaluating
from autoseg.networks.patches import importance, missing, pad, window_starts
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box

# Finished rows are handed on a few at a time, so that a copy of them stays small.
ROWS_AT_ONCE = 8
# So many are read of them at once, where each becomes a hundred classes only then.
ROWS_READ = 4


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
            for starts, logits in computed(setting, padded, windows):
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


def _places(shape: Sequence[int], setting: Setting, axis: int, part: Box) -> tuple[tuple[int, ...], list[Start]]:
    """Return the starts along the axis, and those across it (0 along it) of windows that reach the part."""
    _, margins = missing(shape, setting.patch)
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
