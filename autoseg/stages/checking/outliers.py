"""Cases unlike the others: left and right exchanged, other intensities, another field of view."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoseg.records.check import Problem
from autoseg.records.dataset import Case
from autoseg.stages.checking.looking import Look
from autoseg.stages.checking.rows import make_problem

FEWEST_TO_COMPARE = 5
SIDED_MM = 5.0  # structures that lie nearer to the middle than this say nothing about sides
AGREEING_FRACTION = 0.8
ALIGNED_COSINE = 0.5
MANY_DEVIATIONS = 8.0
# Fraction of the spread from the 5th to the 95th percentile: MR is compared in spreads, where scans of one protocol
# agree within 0.02; Hounsfield units are compared as they are, and air around the patient moves them more.
SMALLEST_DEVIATION = {"ct": 0.09, "other": 0.04}
EXTENT_RATIO = 2.0  # as wide or as narrow along an edge, on average
QUANTILE_NAMES = ("5th", "25th", "50th", "75th", "95th", "99th")


def exchanged_sides(looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn of cases whose structures lie from left to right in the order opposite to that of the other cases.

    A mirrored scan shows so, and so do labels whose sides were exchanged. Data sets that mix both sides, or whose
    structures lie in one sagittal plane, show no order and are left alone.
    """
    offsets = {id: _offsets(look.sides_mm) for id, look in looks.items() if look.sides_mm and len(look.sides_mm) > 1}
    if len(offsets) < FEWEST_TO_COMPARE:
        return
    names = {name for found in offsets.values() for name in found}
    usual = {name: float(np.median([found[name] for found in offsets.values() if name in found])) for name in names}
    cosines = {id: _cosine(found, usual) for id, found in offsets.items()}
    clear = {id: value for id, value in cosines.items() if value is not None}
    agreeing = sum(value > ALIGNED_COSINE for value in clear.values())
    if len(clear) < FEWEST_TO_COMPARE or agreeing < AGREEING_FRACTION * len(clear):
        return
    for id, value in clear.items():
        if value < -ALIGNED_COSINE:
            yield make_problem(
                "warning", "sides_exchanged",
                f"its structures lie in mirrored order: left and right are exchanged against {agreeing} other cases",
                fix="Compare it with another case: the image is mirrored, or the labels of the sides are swapped.",
                case=id,
            )  # fmt: skip


def unlike_the_others(cases: Sequence[Case], looks: Mapping[str, Look], *, kind: str) -> Iterator[Problem]:
    """Warn of cases whose intensities or field of view lie far from those of all the others."""
    known = {case.id: looks[case.id] for case in cases if case.id in looks and looks[case.id].facts is not None}
    if len(known) < FEWEST_TO_COMPARE:
        return
    reasons: dict[str, str] = {}
    _intensities(known, kind, reasons)
    _extents(known, reasons)
    for id, what in reasons.items():
        yield make_problem(
            "warning", "unlike_others", f"is unlike the other cases: {what}",
            fix="Look at it: another modality, unit, body part? Leave it out with --skip if it is not meant.",
            case=id,
        )  # fmt: skip


def _offsets(sides_mm: Mapping[str, float]) -> dict[str, float]:
    middle = sum(sides_mm.values()) / len(sides_mm)
    return {name: value - middle for name, value in sides_mm.items()}


def _cosine(found: Mapping[str, float], usual: Mapping[str, float]) -> float | None:
    """Return how far the order of a case agrees with the usual one, -1 to 1; None where there is too little to tell."""
    mine = np.array([found[name] for name in sorted(found)])
    theirs = np.array([usual[name] for name in sorted(found)])
    lengths = float(np.linalg.norm(mine)), float(np.linalg.norm(theirs))
    if min(lengths) < SIDED_MM:
        return None
    return float(mine @ theirs) / (lengths[0] * lengths[1])


def _intensities(looks: Mapping[str, Look], kind: str, reasons: dict[str, str]) -> None:
    """Compare values where they have a unit (CT), and elsewhere how they are spread, whatever their scale.

    How much air lies around a patient decides between which two tissues a percentile falls. So a percentile is odd
    only where it lies beyond what the next lower and the next higher one usually are.
    """
    table = np.array([look.facts.quantiles for look in looks.values() if look.facts is not None], np.float64)
    what, floor = "percentile of intensity", SMALLEST_DEVIATION["ct"]
    if kind != "ct":
        what, floor = "percentile of intensity, in spreads above the 5th,", SMALLEST_DEVIATION["other"]
        table = _in_spreads(table, list(looks), reasons)
    usual = np.median(table, axis=0)
    width = max(float(usual[4] - usual[0]), 1e-6)
    limits = MANY_DEVIATIONS * np.maximum(np.median(np.abs(table - usual), axis=0), floor * width)
    low, high = usual[[0, 0, 1, 2, 3, 4]] - limits, usual[[1, 2, 3, 4, 5, 5]] + limits
    for column, name in enumerate(QUANTILE_NAMES):
        for id, value in zip(looks, table[:, column], strict=True):
            if not low[column] <= value <= high[column]:
                reasons.setdefault(id, f"its {name} {what} is {value:.4g}, in the median case {usual[column]:.4g}")


def _in_spreads(table: np.ndarray, ids: Sequence[str], reasons: dict[str, str]) -> np.ndarray:
    """Return quantiles (cases, 6) as distances from the 5th percentile in spreads; scans without one are named."""
    spread = table[:, 4] - table[:, 0]
    if np.median(spread > 0) > 0:
        for place in np.flatnonzero(spread <= 0):
            reasons.setdefault(ids[int(place)], f"nine tenths of its voxels are {table[place, 2]:.4g}")
    moved = table - table[:, :1]
    return np.divide(moved, spread[:, None], out=np.zeros_like(moved), where=spread[:, None] > 0)


def _extents(looks: Mapping[str, Look], reasons: dict[str, str]) -> None:
    known = {id: look.extent_mm for id, look in looks.items() if look.extent_mm is not None}
    if len(known) < FEWEST_TO_COMPARE:
        return
    sizes = {id: math.log(math.prod(extent)) / 3 for id, extent in known.items()}
    usual = float(np.median(list(sizes.values())))
    away = {id: abs(size - usual) for id, size in sizes.items()}
    limit = max(MANY_DEVIATIONS * float(np.median(list(away.values()))), math.log(EXTENT_RATIO))
    for id, step in away.items():
        if step > limit:
            words = " x ".join(f"{size:.0f}" for size in known[id])
            reasons.setdefault(
                id, f"its field of view is {words} mm (z, y, x), a usual one {math.exp(usual):.0f} mm wide"
            )
