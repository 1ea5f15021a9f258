"""Signs of how good a prediction is: what probabilities say of the overlap with a truth that nobody has drawn.

# K class, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from scipy import ndimage

from autoseg.images.fields import Field, Output
from autoseg.images.slabs import mean_slabs
from autoseg.images.steadiness import STEADINESS
from autoseg.records.geometry import Triple

SIGNS = ("expected_dice", "log_volume", "core", "shell", "threshold_dice", "compactness", "loose", "whole")
# With those of how steady a prediction stays, of the structure and of all; those above may stand alone.
ALL_SIGNS = (*SIGNS, *STEADINESS, *(f"{name}_of_all" for name in STEADINESS))
SURE, MAYBE = 0.95, 0.05


def signs_of(fields: Sequence[Field], *, output: Output) -> np.ndarray:
    """Return the signs of each structure, slab by slab.

    expected_dice: 2 a / (b + c): a, the probability of the structure added up where it was predicted; b, added up
        everywhere; c, the voxels predicted. Exact in the limit of many independent voxels.
    log_volume: Logarithm of the predicted voxels + 1.
    core: Mean probability where it was predicted.
    shell: Logarithm of the thickness of what is neither surely inside nor surely outside, in mm.
    threshold_dice: Dice of what is at least 95 % sure and what is at least 5 % sure: how far two readers of one
        network would differ, in place of the several networks that a held-out case does not have.
    compactness: Logarithm of surface over volume^(2/3); a ball has the least.
    loose: Share of the volume outside the largest piece.
    whole: expected_dice of everything that is not background, the same for all structures.

    Args:
        fields: Averaged by weight; all of one scan.
        output: What the logits are; with `sigmoid` each channel is a region.

    Returns:
        Float64, (structures, len(SIGNS)); zeros where nothing was predicted.

    Source:
        Borges et al. 2024, arXiv:2402.10665 (expected Dice); Roy et al. 2019, arXiv:1811.09800 and Zenk et al. 2025,
        arXiv:2406.03323 (agreement of several predictions tells failures best).
    """
    grid = fields[0].passage.oriented
    first = 0 if output == "sigmoid" else 1
    count = fields[0].array.shape[0] - first
    sums, whole = np.zeros((count, 6)), np.zeros(6)
    predicted = np.zeros(grid.shape, np.min_scalar_type((1 << count) - 1 if output == "sigmoid" else count))
    for box, mean in mean_slabs(fields, output=output):
        winner = None if output == "sigmoid" else mean.argmax(axis=0)
        for row, share in enumerate(mean[first:]):
            here = share > 0.5 if winner is None else winner == row + 1
            sums[row] += _sums(share, here)
            value = 1 << row if winner is None else row + 1
            predicted[box.slices()] |= predicted.dtype.type(value) * here
        something = mean.max(axis=0) if winner is None else 1 - mean[0]
        whole += _sums(something, something > 0.5 if winner is None else winner > 0)
    found = np.zeros((count, len(SIGNS)))
    for row, mask in _masks(predicted, count, output):
        found[row] = (*_signs(sums[row], mask, grid.spacing_mm), 2 * whole[0] / (whole[1] + whole[2]))
    return found


def _sums(share: np.ndarray, predicted: np.ndarray) -> tuple[float, ...]:
    """Return probability where predicted and everywhere, voxels predicted, unsure, surely and perhaps inside."""
    return (
        share[predicted].sum(dtype=np.float64),
        share.sum(dtype=np.float64),
        predicted.sum(),
        4 * (share * (1 - share)).sum(dtype=np.float64),
        (share >= SURE).sum(),
        (share >= MAYBE).sum(),
    )


def _masks(predicted: np.ndarray, count: int, output: Output) -> Iterator[tuple[int, np.ndarray]]:
    """Yield row and mask, cut to its box, of each structure that was predicted."""
    if output == "softmax":
        boxes = ndimage.find_objects(predicted, max_label=count)
        yield from ((row, predicted[box] == row + 1) for row, box in enumerate(boxes) if box is not None)
        return
    for row in range(count):
        mask = (predicted >> predicted.dtype.type(row) & 1).astype(np.uint8)
        (box,) = ndimage.find_objects(mask, max_label=1)
        if box is not None:
            yield row, mask[box] > 0


def _signs(sums: np.ndarray, mask: np.ndarray, spacing_mm: Triple) -> tuple[float, ...]:
    both, likely, voxels, unsure, sure, maybe = sums
    voxel = prod(spacing_mm)
    surface = _surface_mm2(mask, spacing_mm)
    pieces, _ = ndimage.label(mask)
    largest = np.bincount(pieces.ravel())[1:].max()
    return (
        2 * both / (likely + voxels),
        float(np.log1p(voxels)),
        both / voxels,
        float(np.log(max(unsure * voxel / surface, 1e-3))),
        2 * sure / (sure + maybe),
        float(np.log(surface / (voxels * voxel) ** (2 / 3))),
        float(1 - largest / voxels),
    )


def _surface_mm2(mask: np.ndarray, spacing_mm: Triple) -> float:
    """Return the area of all faces between inside and outside."""
    padded = np.pad(mask, 1)
    total = 0.0
    for axis, size in enumerate(spacing_mm):
        total += np.count_nonzero(np.diff(padded, axis=axis)) * prod(spacing_mm) / size
    return total
