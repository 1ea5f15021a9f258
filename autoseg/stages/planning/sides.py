"""Left and right: which structures are twins, and what a flip from one side to the other does to them.

Source:
    nnU-Net issues 869, 219, 1834 and others: mirroring swaps paired structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.records.configuration import Sides
from autoseg.records.fingerprint import Fingerprint, StructureFacts
from autoseg.records.labels import Labels
from autoseg.stages.planning.reasons import Reasoned, listed

LEFT_RIGHT_AXIS = 2  # images are brought to LPS first, so x runs from right to left
# Twins' centres mirror one another within this share of the cropped image along every axis.
MIRROR_TOLERANCE = 0.15
LEAST_DISTANCE = 0.05


@dataclass(frozen=True)
class Twins:
    """Pairs of inside values by what their centres say of their names.

    Attributes:
        confirmed: Their median centres mirror one another.
        unlike: They do not: an image of one side only, or names that mean something else.
        unknown: The fingerprint holds no centre of one of them.
        split_at, first_below: As in Sides, for the confirmed ones.
    """

    confirmed: tuple[tuple[int, int], ...] = ()
    unlike: tuple[tuple[int, int], ...] = ()
    unknown: tuple[tuple[int, int], ...] = ()
    split_at: tuple[float, ...] = ()
    first_below: tuple[bool, ...] = ()


def twins(fingerprint: Fingerprint) -> Twins:
    """Return the pairs that names speak of (`Labels.mirror_pairs`), checked against mirrored centres."""
    labels = fingerprint.labels
    facts = {item.name: item for item in fingerprint.structures if item.present_cases > 0}
    names = {item.value: item.name for item in labels.structures}
    confirmed, unlike, unknown, split_at, first_below = [], [], [], [], []
    for pair in labels.mirror_pairs:
        first, second = (facts.get(names[value]) for value in pair)
        if first is None or second is None:
            unknown.append(pair)
        elif not _mirrored(first, second):
            unlike.append(pair)
        else:
            confirmed.append(pair)
            split_at.append(round((first.centroid[2] + second.centroid[2]) / 2, 4))
            first_below.append(first.centroid[2] < second.centroid[2])
    return Twins(tuple(confirmed), tuple(unlike), tuple(unknown), tuple(split_at), tuple(first_below))


def _mirrored(first: StructureFacts, second: StructureFacts) -> bool:
    z, y, x = (abs(a - b) for a, b in zip(first.centroid, (*second.centroid[:2], 1 - second.centroid[2]), strict=True))
    apart = abs(first.centroid[2] - second.centroid[2]) >= LEAST_DISTANCE
    return apart and max(z, y, x) <= MIRROR_TOLERANCE


def mirror_axes(
    fingerprint: Fingerprint, order: Sequence[int], *, dimensions: int, wanted: str = "no_mirror"
) -> tuple[Reasoned[tuple[int, ...]], Sides | None]:
    """Return the patch axes (0 z, 1 y, 2 x) that training and prediction flip, and what a flip does to twins.

    Args:
        fingerprint: Labels and centres.
        order: `axis_order`.
        dimensions: 2 or 3, of the network.
        wanted: `left_right` of the preset; where it cannot be done for every pair, left is not flipped for right.
    """
    axes = (1, 2) if dimensions == 2 else (0, 1, 2)
    labels = fingerprint.labels
    if not labels.mirror_pairs:
        return Reasoned(axes, "no structure has a left and a right twin"), None
    axis = list(order).index(LEFT_RIGHT_AXIS)
    kept = tuple(item for item in axes if item != axis)
    found = twins(fingerprint)
    told = f"{_names(labels, labels.mirror_pairs)} are left and right of one another{_centres(labels, found)}"
    if wanted == "no_mirror":
        return Reasoned(kept, f"{told}: a flip from left to right would swap them (left_right = no_mirror)"), None
    obstacle = _obstacle(labels, found, axis in axes, wanted)
    if obstacle:
        return Reasoned(kept, f"{told}: left_right = {wanted} cannot be done, {obstacle}"), None
    if wanted == "swap":
        sides = Sides(handling="swap", axis=axis, pairs=labels.mirror_pairs)
        return Reasoned(
            axes, f"{told}: a flip exchanges them, in training and in prediction (left_right = swap)"
        ), sides
    sides = Sides(
        handling="merge_split", axis=axis, pairs=found.confirmed, split_at=found.split_at, first_below=found.first_below
    )
    because = f"{told}: learned as one, and split by side afterwards (left_right = merge_split)"
    return Reasoned(axes, because), sides


def _obstacle(labels: Labels, found: Twins, seen: bool, wanted: str) -> str:
    if not seen:
        return "the network does not see that axis"
    if labels.regions:
        return "regions unite structures of both sides"
    if wanted == "merge_split" and len(found.confirmed) < len(labels.mirror_pairs):
        return "some pairs' centres do not say on which side each lies"
    if wanted == "swap" and found.unlike:
        return "some pairs' centres do not mirror one another"
    return ""


def _centres(labels: Labels, found: Twins) -> str:
    if found.unlike:
        return f" by name, although the centres of {_names(labels, found.unlike)} do not mirror one another"
    return ", and their centres mirror one another" if found.confirmed and not found.unknown else ""


def _names(labels: Labels, pairs: Sequence[tuple[int, int]]) -> str:
    names = {item.value: item.name for item in labels.structures}
    shown = listed(f"{names[a]}/{names[b]}" for a, b in pairs[:3])
    return f"{shown} and {len(pairs) - 3} more pairs" if len(pairs) > 3 else shown
