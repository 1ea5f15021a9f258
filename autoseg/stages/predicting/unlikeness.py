"""How unlike the training scans a scan is, aspect by aspect.

Source: Mahalanobis 1936; Woodland et al. 2024 take the same distance of a network's few strongest features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoseg.images.signs import ALL_SIGNS, SIGNS
from autoseg.images.steadiness import STEADINESS
from autoseg.records.likeness import Aspect, AspectFound, Likeness, Unlikeness

# The aspects that the networks make; all others are of the image.
PREDICTION, STEADY = "prediction", "steadiness"
# What the second farthest aspect counts beside the farthest.
SECOND = 0.5


def told_by(signs: np.ndarray) -> dict[str, np.ndarray]:
    """Return aspect -> numbers that the signs of a prediction make.

    Args:
        signs: (structures, signs), against what is usual; with those of steadiness or without.
    """
    found = {PREDICTION: signs[:, : len(SIGNS)].ravel()}
    if signs.shape[1] == len(ALL_SIGNS):
        found[STEADY] = signs[0, -len(STEADINESS) :]  # of all structures together, the same in each row
    return found


def distances(aspect: Aspect, numbers: np.ndarray) -> np.ndarray:
    """Return the distance of each row of numbers (n, d) from the training scans; what is nan is like them."""
    scaled = np.nan_to_num((numbers - np.array(aspect.centre)) / np.array(aspect.scale))
    squares = np.einsum("ij,jk,ik->i", scaled, np.array(aspect.precision), scaled)
    return np.asarray(np.sqrt(np.maximum(squares, 0) / scaled.shape[1]))


def beyond(aspect: Aspect, apart: np.ndarray) -> np.ndarray:
    """Return how far distances lie beyond the usual ones, in times of the mean excess; 0 for usual ones."""
    return np.asarray(np.maximum(0.0, (apart - aspect.usual) / aspect.excess))


def together(found: np.ndarray) -> np.ndarray:
    """Return how far scans lie out: by their farthest aspect and half of the second, for one alone may be by chance.

    Args:
        found: Of `beyond`, (scans, aspects); aspects that were not measured are 0.
    """
    ordered = np.sort(found, axis=1)[:, ::-1]
    return np.asarray(ordered[:, :1].sum(axis=1) + SECOND * ordered[:, 1:2].sum(axis=1))


def unlikeness(likeness: Likeness, traits: Mapping[str, np.ndarray]) -> Unlikeness:
    """Return how unlike the training scans a scan is.

    Args:
        likeness: Of the training scans.
        traits: Of the scan: `images.traits.traits`, and `prediction` where it was predicted; aspects that are missing
            say nothing.
    """
    found = [
        AspectFound(name=aspect.name, unlikeness=float(beyond(aspect, distances(aspect, traits[aspect.name][None]))[0]))
        for aspect in likeness.aspects
        if aspect.name in traits
    ]
    farthest = sorted(found, key=lambda item: -item.unlikeness)
    most = float(together(np.array([[item.unlikeness for item in found]]))[0])
    out = [item for item in farthest if item.unlikeness > likeness.limit]
    if most > likeness.limit and not out:  # two of them together
        out = farthest[:2]
    return Unlikeness(unlikeness=most, limit=likeness.limit, aspects=tuple(out))
