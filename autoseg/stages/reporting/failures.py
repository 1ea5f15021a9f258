"""What went wrong on held-out cases, in words: the list that a person reads first."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from autoseg.records.evaluation import Evaluation, StructureScore

FAR_BELOW = 0.5


@dataclass(frozen=True)
class Failure:
    """One structure of one case that failed; `dice` is nan where there was no prediction at all."""

    case: str
    structure: str
    what: str
    dice: float


def failures(evaluation: Evaluation) -> list[Failure]:
    """Return what was not predicted, missed, invented, or scored below half of its structure's median Dice."""
    usual = _medians(evaluation)
    found = []
    for score in evaluation.scores:
        if score.missing:
            found.append(Failure(score.case, "all", "there was no prediction", float("nan")))
            continue
        for item in score.structures:
            what = _what(item, usual.get(item.structure, 0.0))
            if what:
                found.append(Failure(score.case, item.structure, what, item.dice))
    return found


def _medians(evaluation: Evaluation) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in evaluation.scores:
        for item in score.structures:
            if item.dice == item.dice:
                values.setdefault(item.structure, []).append(item.dice)
    return {name: median(row) for name, row in values.items()}


def _what(item: StructureScore, usual: float) -> str:
    if item.dice != item.dice:
        return ""
    if item.predicted_ml == 0 and item.truth_ml > 0:
        return f"missed: {item.truth_ml:.3g} ml are there, nothing was predicted"
    if item.truth_ml == 0 and item.predicted_ml > 0:
        return f"invented: {item.predicted_ml:.3g} ml where there is none"
    if item.dice < FAR_BELOW * usual:
        return f"Dice below half of the median {usual:.3f}"
    return ""
