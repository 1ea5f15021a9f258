"""How much a class counts in the cross-entropy, from how many voxels it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from autoseg.records.labels import Labels

EFFECTIVE_BETA = 0.9999
MAX_RATIO = 100.0

Kind = Literal["none", "inverse", "effective"]


def class_weights(kind: Kind, voxels: Sequence[float], labels: Labels) -> tuple[float, ...] | None:
    """Return the weights that `losses.make_loss` takes, or None where there are none.

    With structures: one a class, the background first; classes that are there have the mean weight 1, and none weighs
    more than 100 times another. With regions: how many times a voxel inside a region counts, 1 to 100.

    Args:
        kind: `inverse`: 1 over the voxels. `effective`: 1 over the effective number of voxels, which stops growing
            near 10,000 voxels a case, so that only classes smaller than that are raised.
        voxels: Of an average case, background first, then one a structure.
        labels: What is segmented.

    Source:
        Effective number of samples, beta 0.9999: Cui et al. 2019, arXiv:1901.05555.
    """
    if kind == "none":
        return None
    if labels.regions:
        return tuple(_positive_weight(kind, voxels, region.values) for region in labels.regions)
    return structure_weights(kind, voxels)


def structure_weights(kind: Kind, voxels: Sequence[float]) -> tuple[float, ...]:
    """Return one weight a class; a class without voxels gets 1, it never counts."""
    sizes = [_size(kind, count) for count in voxels]
    there = [size for size in sizes if size > 0]
    least = max(there, default=1.0) / MAX_RATIO
    raw = [1 / max(size, least) if size > 0 else 0.0 for size in sizes]
    mean = sum(raw) / max(1, len(there))
    return tuple(item / mean if item else 1.0 for item in raw)


def _positive_weight(kind: Kind, voxels: Sequence[float], values: Sequence[int]) -> float:
    inside = sum(voxels[value] for value in values)
    outside = sum(voxels) - inside
    if inside <= 0:
        return 1.0
    return min(max(_size(kind, outside) / _size(kind, inside), 1.0), MAX_RATIO)


def _size(kind: Kind, count: float) -> float:
    return count if kind == "inverse" else (1 - EFFECTIVE_BETA**count) / (1 - EFFECTIVE_BETA)
