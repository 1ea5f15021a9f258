"""Logits of a slab at the scan's resolution, on whatever device they lie: the largest class, or probabilities.

# K class, z y x voxel of the slab
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autoseg.images.resizing import Taps, interpolate, reach, window

# Logits that are compared at once: with what stands beside them they fit a core's own cache.
ROWS_NUMBERS = 2**17


def largest(block: Tensor, along: Sequence[Taps], dtype: np.dtype) -> np.ndarray:
    """Return the class of the largest interpolated logit; ties go to the lower class.

    A class is left out where it lies below the background at every corner: an interpolated logit is a mean of its
    corners, so it cannot win there. For 100 organs what is left is a few times the scan instead of 100 times.

    Args:
        block: float32, (K, ...) on the network's grid.
        along: Taps from each axis of the block to the slab.
        dtype: Of the result, `uint8` or `int16`.

    Returns:
        (z, y, x).
    """
    labels = np.zeros([lower.size for lower, _, _ in along], dtype)
    if block.device.type == "cpu":
        # NumPy: on one core it gathers 4 times and compares 6 times as fast as torch, so threads are made here.
        _in_threads(lambda rows: _largest_of_rows(block.numpy(), along, rows, labels), labels.shape[0])
        return labels
    return _largest_on_card(block, along, labels)


def _in_threads(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` with parts of the rows, one for each thread that torch may use."""
    count = min(torch.get_num_threads(), rows)
    edges = [rows * place // max(1, count) for place in range(count + 1)]
    parts = [slice(low, high) for low, high in pairwise(edges)]
    if count <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(work, parts))


def _largest_of_rows(block: np.ndarray, along: Sequence[Taps], rows: slice, labels: np.ndarray) -> None:
    """Write the class of the largest logit into `rows` of the labels."""
    read, first = window(along[0], rows)
    block, along, labels = block[:, read], (first, *along[1:]), labels[rows]
    best = _climb_array(block[0], along)
    best = best.copy() if np.shares_memory(best, block) else best
    for value in range(1, len(block)):
        part = _where_it_can_win(block[value] > block[0], along)
        if part is None:
            continue
        seen = [window(taps, piece) for taps, piece in zip(along, part, strict=True)]
        layer = block[value][tuple(source for source, _ in seen)]
        (z_taps, y_taps, x_taps) = (taps for _, taps in seen)
        layer = interpolate(interpolate(layer, 2, x_taps), 1, y_taps)
        _climb_into(layer, z_taps, value, best=best[part], labels=labels[part])


def _climb_into(layer: np.ndarray, along: Taps, value: int, *, best: np.ndarray, labels: np.ndarray) -> None:
    """Interpolate along z, a few rows at a time so that they stay in the cache, and take the places where it wins."""
    lower, upper, weight = along
    at_once = max(1, ROWS_NUMBERS // max(1, best[0].size))
    for start in range(0, lower.size, at_once):
        rows = slice(start, start + at_once)
        logits = interpolate(layer, 0, (lower[rows], upper[rows], weight[rows]))
        here, there = best[rows], labels[rows]
        # Classes come in rising order, so the label of the latest winner is the largest one so far.
        won = np.greater(logits, here).view(np.uint8)
        np.maximum(there, np.multiply(won, value, dtype=there.dtype), out=there)
        np.maximum(here, logits, out=here)


def _climb_array(layer: np.ndarray, along: Sequence[Taps]) -> np.ndarray:
    """Do what `climb` does; the same numbers."""
    for axis in (2, 1, 0):
        layer = interpolate(layer, axis, along[axis])
    return layer


def _largest_on_card(block: Tensor, along: Sequence[Taps], result: np.ndarray) -> np.ndarray:
    kind = torch.uint8 if result.dtype == np.uint8 else torch.int16
    labels = torch.zeros(result.shape, dtype=kind, device=block.device)
    best = climb(block[0], along).clone()
    for value in range(1, len(block)):
        part = _where_it_can_win((block[value] > block[0]).cpu().numpy(), along)
        if part is None:
            continue
        read = [window(taps, piece) for taps, piece in zip(along, part, strict=True)]
        logits = climb(block[value][tuple(source for source, _ in read)], [taps for _, taps in read])
        here, there = best[part], labels[part]
        won = torch.gt(logits, here).to(labels.dtype).mul_(value)
        torch.maximum(there, won, out=there)
        torch.maximum(here, logits, out=here)
    return labels.cpu().numpy()


def probabilities(block: Tensor, along: Sequence[Taps], output: Literal["softmax", "sigmoid"]) -> np.ndarray:
    """Return float32 probabilities (K, z, y, x) of the slab; arguments as in `largest`."""
    shape = tuple(int(lower.size) for lower, _, _ in along)
    result = torch.empty((len(block), *shape), device=block.device)
    for value, layer in enumerate(block):
        result[value] = climb(layer, along)
    if block.device.type == "cpu":
        return _to_probabilities(result.numpy(), output)
    if output == "sigmoid":
        return result.sigmoid_().cpu().numpy()
    return torch.softmax(result, 0).cpu().numpy()


def _to_probabilities(logits: np.ndarray, output: str) -> np.ndarray:
    """Turn logits (K, z, y, x) into probabilities in place and return them.

    By NumPy, whose functions give a number whatever lies beside it; torch's differ in the last bit at the end of an
    array, so that the result would depend on the size of the slab.
    """
    if output == "softmax":
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        # Added up class by class: the order, and so the last bit, does not depend on the size of the slab.
        total = logits[0].copy()
        for layer in logits[1:]:
            total += layer
        logits /= total
        return logits
    # tanh does not overflow where exp(-x) would.
    logits *= np.float32(0.5)
    np.tanh(logits, out=logits)
    logits += np.float32(1)
    logits *= np.float32(0.5)
    return logits


def climb(layer: Tensor, along: Sequence[Taps]) -> Tensor:
    """Return one class, (z, y, x), at the scan's resolution; voxels that fall on old voxels are exact copies."""
    # The innermost axis first: gathering along it is the dear step, and there is least of it now. The order never
    # depends on the slab, or the last bit would.
    for axis in (2, 1, 0):
        layer = _interpolate(layer, axis, along[axis])
    return layer


def _interpolate(layer: Tensor, axis: int, along: Taps) -> Tensor:
    lower, upper, weight = along
    count = layer.shape[axis]
    if lower.size == count and not weight.any() and np.array_equal(lower, np.arange(count)):
        return layer
    low = layer.index_select(axis, _index(lower, layer))
    if not weight.any():
        return low
    high = layer.index_select(axis, _index(upper, layer))
    share = torch.from_numpy(weight).to(layer.device).reshape([-1 if a == axis else 1 for a in range(3)])
    # low + (high - low) * w instead of two products: a constant stays that constant to the last bit.
    return high.sub_(low).mul_(share).add_(low)


def _index(places: np.ndarray, layer: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(places, dtype=np.int64)).to(layer.device)


def _where_it_can_win(ahead: np.ndarray, along: Sequence[Taps]) -> tuple[slice, ...] | None:
    """Return the voxels of the slab that see any old voxel where a class lies `ahead` of the background."""
    anywhere = np.logical_or.reduce
    plane = anywhere(ahead, axis=0)
    seen_along = (anywhere(ahead, axis=(1, 2)), anywhere(plane, axis=1), anywhere(plane, axis=0))
    parts = []
    for seen, taps in zip(seen_along, along, strict=True):
        places = np.flatnonzero(seen)
        if not places.size:
            return None
        part = reach(taps, int(places[0]), int(places[-1]) + 1)
        if part.start >= part.stop:
            return None
        parts.append(part)
    return tuple(parts)
