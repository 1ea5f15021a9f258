"""Which cases are unlike the others, in what, and by how much.

Every figure of a case (logarithm of spacing, field of view and volumes; position and spread of intensities) is
compared with its median over cases, in robust standard deviations (1.4826 x the median absolute deviation).

Source: Iglewicz and Hoaglin 1993 (the modified z-score, and its limit of 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.records.exploration import QUANTILES, Exploration, ExploredCase

LIMIT = 3.5
FEWEST_TO_COMPARE = 5
ROBUST = 1.4826
# Cases that differ by less are alike, however much the others agree: a factor of 1.1; a tenth of the usual spread.
SMALLEST_DEVIATION = 0.1
AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Odd:
    """A case and how far it is from the median case in the figure in which it is farthest.

    Attributes:
        deviations: Robust standard deviations.
        what: The figure with its value here and in the median case.
        more: Names of further figures beyond the limit.
    """

    case: str
    deviations: float
    what: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Figure:
    """One figure of one case; `scaled` is what is compared, `shown` what is said."""

    name: str
    scaled: float
    shown: float
    unit: str


def odd_cases(found: Exploration) -> list[Odd]:
    """Return the cases beyond the limit, the oddest first; none with fewer than five cases to compare."""
    return [item for item in ranked(found) if item.deviations > LIMIT]


def ranked(found: Exploration) -> list[Odd]:
    """Return every case that can be compared, the oddest first, the most usual one last."""
    rows = {case.id: {item.name: item for item in _figures(case, found)} for case in found.cases}
    if len(rows) < FEWEST_TO_COMPARE:
        return []
    names = dict.fromkeys(name for row in rows.values() for name in row)
    away: dict[str, list[tuple[float, str, str]]] = {id: [] for id in rows}
    for name in names:
        column = {id: row[name] for id, row in rows.items() if name in row}
        if len(column) < FEWEST_TO_COMPARE:
            continue
        for id, size in zip(column, _deviations([item.scaled for item in column.values()]), strict=True):
            usual = float(np.median([item.shown for item in column.values()]))
            item = column[id]
            words = f"{name} {item.shown:.4g}{item.unit}, in the median case {usual:.4g}{item.unit}"
            away[id].append((size, name, words))
    found_odd = [_odd(id, items) for id, items in away.items() if items]
    return sorted(found_odd, key=lambda item: (-item.deviations, item.case))


def _odd(id: str, items: Sequence[tuple[float, str, str]]) -> Odd:
    worst = max(items, key=lambda item: item[0])
    more = tuple(name for size, name, _ in items if size > LIMIT and name != worst[1])
    return Odd(id, worst[0], worst[2], more)


def _deviations(values: Sequence[float]) -> np.ndarray:
    away = np.abs(np.asarray(values) - np.median(values))
    return away / max(ROBUST * float(np.median(away)), SMALLEST_DEVIATION)


def _figures(case: ExploredCase, found: Exploration) -> Iterator[_Figure]:
    for axis, mm, voxels in zip(AXES, case.spacing_mm, case.shape, strict=True):
        yield _Figure(f"spacing along {axis}", math.log(mm), mm, " mm")
        yield _Figure(f"field of view along {axis}", math.log(mm * voxels), mm * voxels, " mm")
    for name, volume in case.volumes_ml.items():
        if volume > 0:
            yield _Figure(f"volume of {name}", math.log(volume), volume, " ml")
    for channel in case.channels:
        usual, width = _usual(found, channel.channel)
        middle = channel.quantiles[QUANTILES.index(0.5)]
        spread = channel.quantiles[QUANTILES.index(0.95)] - channel.quantiles[QUANTILES.index(0.05)]
        yield _Figure(f"median of {channel.channel}", (middle - usual) / width, middle, "")
        yield _Figure(f"spread (5 to 95 %) of {channel.channel}", spread / width, spread, "")


def _usual(found: Exploration, channel: str) -> tuple[float, float]:
    """Return the median case's median and spread of a channel."""
    rows = np.array([item.quantiles for case in found.cases for item in case.channels if item.channel == channel])
    middle, low, high = (np.median(rows[:, QUANTILES.index(at)]) for at in (0.5, 0.05, 0.95))
    return float(middle), max(float(high - low), 1e-6)
