"""Neighbouring slices as channels (2.5D), and structures split by side: what a network's input and output mean."""

# C channel, K output channels, Z Y X voxel, n slices on each side

from __future__ import annotations

import numpy as np

from autoseg.records.configuration import Sides

NEVER = -1e4  # a logit below every other, in float16 too


def with_neighbours(image: np.ndarray, count: int) -> np.ndarray:
    """Return (C * (2n + 1), Z, Y, X): of each slice the n before it, itself, and the n behind it.

    The first and the last slice are repeated at the ends. All channels of one slice lie together, the earliest first.

    Args:
        image: (C, Z, Y, X).
        count: n.
    """
    if count == 0:
        return image
    return np.concatenate([image[:, neighbours(image.shape[1], step)] for step in range(-count, count + 1)])


def neighbours(slices: int, step: int) -> np.ndarray:
    """Return for each of so many slices the index of the one `step` further, the ends repeated: integer, (slices,)."""
    return np.clip(np.arange(slices) + step, 0, slices - 1)


def merged(labels: np.ndarray, sides: Sides | None) -> np.ndarray:
    """Return label map (Z, Y, X) with the second of each pair as the first, where twins are learned as one."""
    if sides is None or sides.handling != "merge_split":
        return labels
    result = labels.copy()
    for first, second in sides.pairs:
        result[labels == second] = first
    return result


def split_by_side(logits: np.ndarray, sides: Sides) -> np.ndarray:
    """Return logits in which each pair's first channel was given to the twin on whose side a voxel lies.

    Args:
        logits: (K, Z, Y, X) of a softmax, background first; the channels of the pairs' second twins were not learned.
        sides: With handling `merge_split`.
    """
    result = logits.copy()
    size = logits.shape[1 + sides.axis]
    place = (np.arange(size) + 0.5) / size
    shape = [1, 1, 1]
    shape[sides.axis] = size
    for (first, second), split, below in zip(sides.pairs, sides.split_at, sides.first_below, strict=True):
        mine = ((place < split) == below).reshape(shape)
        result[first] = np.where(mine, logits[first], NEVER)
        result[second] = np.where(mine, NEVER, logits[first])
    return result
