"""What probabilities say of the overlap with a truth that nobody has drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.images.home import Field, Output, mean_slabs


def expected_overlap(fields: Sequence[Field], *, output: Output) -> np.ndarray:
    """Return expected Dice and logarithm of the predicted volume (voxels + 1) of each structure, slab by slab.

    The expected Dice is 2 a / (b + c): a, the probability of the structure added up where it was predicted; b, added
    up everywhere; c, the voxels predicted. It is exact in the limit of many independent voxels.

    Args:
        fields: Averaged by weight; all of one scan.
        output: What the logits are; with `sigmoid` each channel is a region.

    Returns:
        Float64, (structures, 2); an expected Dice of 0 where nothing was predicted.
    """
    first = 0 if output == "sigmoid" else 1
    sums = np.zeros((3, fields[0].array.shape[0] - first))
    for _, mean in mean_slabs(fields, output=output):
        winner = None if output == "sigmoid" else mean.argmax(axis=0)
        for row, share in enumerate(mean[first:]):
            predicted = share > 0.5 if winner is None else winner == row + 1
            sums[:, row] += share[predicted].sum(dtype=np.float64), share.sum(dtype=np.float64), predicted.sum()
    both, likely, voxels = sums
    dice = np.divide(2 * both, likely + voxels, out=np.zeros(len(both)), where=voxels > 0)
    return np.stack([dice, np.log1p(voxels)], axis=1)
