"""How sure several voices are of every voxel of a scan, and how far they differ.

# K class, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.images.fields import Field, Output
from autoseg.images.orientation import reorient
from autoseg.images.slabs import mean_slabs


def doubt(voices: Sequence[Sequence[Field]], *, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """Return entropy and disagreement of every voxel, slab by slab.

    The entropy is that of the voices' mean probabilities. The disagreement is the part of it that comes from the voices
    differing: the mean's entropy less the mean of their entropies (the mutual information of class and voice). Both
    are shares of the largest entropy that there is, 0 to 1; of overlapping regions the most doubtful counts.

    Args:
        voices: Each a set of fields that is averaged by weight, such as one fold of every member; all of one scan.
        output: What the logits are.

    Returns:
        Two float32 (Z, Y, X) on the original grid; 0 outside every crop.

    Source:
        Houlsby et al. 2011 (BALD).
    """
    passage = voices[0][0].passage
    entropy, disagreement = (np.zeros(passage.original.shape, np.float32) for _ in range(2))
    views = [reorient(array, passage.original, passage.oriented) for array in (entropy, disagreement)]
    for slabs in zip(*(mean_slabs(fields, output=output) for fields in voices), strict=True):
        box = slabs[0][0]
        mean = np.zeros_like(slabs[0][1])
        alone = np.zeros(_doubt_shape(mean, output), np.float32)
        for _, probabilities in slabs:
            mean += probabilities / np.float32(len(voices))
            alone += _entropy(probabilities, output) / np.float32(len(voices))
        whole = _entropy(mean, output)
        part = np.maximum(whole - alone, 0)
        for view, values in zip(views, (whole, part), strict=True):
            view[box.slices()] = values.max(axis=0) if output == "sigmoid" else values
    return entropy, disagreement


def _doubt_shape(mean: np.ndarray, output: Output) -> tuple[int, ...]:
    return mean.shape if output == "sigmoid" else mean.shape[1:]


def _entropy(probabilities: np.ndarray, output: Output) -> np.ndarray:
    """Return the entropy as a share of the largest: (z, Y, X) over classes, or (K, z, Y, X) a region each."""
    if output == "sigmoid":
        return (_surprise(probabilities) + _surprise(1 - probabilities)) / np.float32(np.log(2))
    total = np.zeros(probabilities.shape[1:], np.float32)
    for layer in probabilities:
        total += _surprise(layer)
    return total / np.float32(np.log(len(probabilities)))


def _surprise(share: np.ndarray) -> np.ndarray:
    return -share * np.log(np.maximum(share, np.float32(1e-12)))
