"""From the traits of the training scans to what tells a scan that is unlike them.

Each aspect is judged by its own robust Mahalanobis distance, so that one that differs much is not hidden by others that
do not, and so that it can be named. All distances that a limit comes from are of scans against those of other patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.records.likeness import Aspect, Likeness
from autoseg.stages.predicting.unlikeness import PREDICTION, STEADY, beyond, distances, together

ALARM = 0.05
# The tail of an aspect begins where this share of the scans ends, earlier where too few would lie beyond.
USUAL = 0.9
TAIL_SCANS = 10
FEWEST_SCANS = 8
PARTS = 5
# Differences smaller than these (in the aspects' own numbers) are never worth a word; the signs of a prediction are in
# standard deviations already.
SMALLEST_SCALE = {"spacing": 0.05, "field of view": 0.05, PREDICTION: 1.0, STEADY: 1.0}
OTHERWISE = 0.01
SMALLEST_EXCESS = 0.2
# Below this nothing is odd, even where all scans of the training are the same.
SMALLEST_LIMIT = 1.0
FARTHEST = 6.0


def fit_likeness(patients: Sequence[str], traits: Sequence[Mapping[str, np.ndarray]]) -> Likeness | None:
    """Return what tells scans that are unlike these; None where there are too few, or all of one patient.

    Args:
        patients: Of each scan.
        traits: Of each scan; an aspect that too few of them have is left out.
    """
    if len(traits) < FEWEST_SCANS or len(set(patients)) < 2:
        return None
    aspects: list[Aspect] = []
    columns: list[np.ndarray] = []
    for name in dict.fromkeys(name for item in traits for name in item):
        rows = [row for row, item in enumerate(traits) if name in item]
        known = [patients[row] for row in rows]
        if len(rows) >= FEWEST_SCANS and len(set(known)) > 1:
            table = np.array([traits[row][name] for row in rows])
            apart = _apart(name, table, _parts(known))
            usual, excess = tail(apart)
            aspects.append(_aspect(name, table).model_copy(update={"usual": usual, "excess": excess}))
            columns.append(np.zeros(len(traits)))
            columns[-1][rows] = beyond(aspects[-1], apart)
    limit, alarm = conformal_limit(together(np.stack(columns, axis=1)) if columns else np.zeros(len(traits)))
    return Likeness(aspects=tuple(aspects), limit=max(SMALLEST_LIMIT, limit), alarm_fraction=alarm, cases=len(traits))


def tail(apart: np.ndarray) -> tuple[float, float]:
    """Return up to where distances are usual, and by how much those beyond it lie farther out on average.

    The farthest of all is left out of the mean: one odd scan in the training must not stretch it. Tails begin late,
    for early on they are those of the many: noise that no scan has looked less odd than shapes that one in ten has.
    """
    share = max(0.5, min(USUAL, 1 - TAIL_SCANS / len(apart)))
    usual = float(np.quantile(apart, share))
    beyond_it = np.sort(apart[apart > usual])[:-1] - usual
    return usual, max(SMALLEST_EXCESS, float(beyond_it.mean()) if len(beyond_it) else 0.0)


def _apart(name: str, table: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the distance of each scan from those of other patients."""
    found = np.empty(len(table))
    for part in parts:
        others = np.setdiff1d(np.arange(len(table)), part)
        found[part] = distances(_aspect(name, table[others]), table[part])
    return found


def conformal_limit(found: np.ndarray, alarm: float = ALARM) -> tuple[float, float]:
    """Return the limit that `alarm` of new scans like these lie above, and that share: more where scans are few."""
    place = math.ceil((len(found) + 1) * (1 - alarm))
    if place <= len(found):
        return float(np.sort(found)[place - 1]), alarm
    return float(found.max()), 1 / (len(found) + 1)


def _parts(patients: Sequence[str]) -> list[np.ndarray]:
    """Return places of scans in up to five parts, patients never split."""
    number = {patient: place % PARTS for place, patient in enumerate(sorted(set(patients)))}
    dealt = np.array([number[patient] for patient in patients])
    return [np.flatnonzero(dealt == part) for part in sorted(set(number.values()))]


def _aspect(name: str, table: np.ndarray) -> Aspect:
    """Return the aspect of a table of numbers (scans, d); numbers that no scan has count as 0."""
    known = np.where(np.isfinite(table).any(axis=0), table, 0.0)
    centre = np.nanmedian(known, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(known - centre), axis=0)
    scale = np.maximum(spread, SMALLEST_SCALE.get(name, OTHERWISE))
    # Far values are drawn in, so that odd scans in the training do not make odd scans usual.
    scaled = np.clip(np.nan_to_num((known - centre) / scale), -FARTHEST, FARTHEST)
    count, size = scaled.shape
    spread_of = scaled.T @ scaled / count
    shrink = min(1.0, size / count)
    shrunk = (1 - shrink) * spread_of + (shrink * np.trace(spread_of) / size) * np.eye(size)
    # A number that hardly changes is worth its smallest scale, and no more.
    shrunk += np.diag(np.maximum(0.01, 1 - np.diag(spread_of)))
    return Aspect(
        name=name,
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        precision=tuple(tuple(row) for row in np.linalg.inv(shrunk).tolist()),
    )
