"""Where a run ends and at which rate it learns, when both depend on what was measured on the way.

Everything follows from the scores measured so far, which a checkpoint holds; so a resumed run decides as an unbroken
one does.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.records.model import RunRecord
from autoseg.records.preset import Recipe
from autoseg.records.record import Record
from autoseg.stages.training import schedule

MIN_GAIN = 1e-3


class Score(Record):
    """Mean Dice on the patients set apart, measured after `step` steps."""

    step: int
    dice: float


class Phase(Record):
    """A stretch of a run with a schedule of its own: the run itself, or one extension.

    Attributes:
        start, stop: Steps done when it begins, and when it ends unless it is stopped earlier.
    """

    start: int
    stop: int


def phases(record: RunRecord) -> tuple[Phase, ...]:
    """Return the phases of a run in their order."""
    return (
        Phase(start=0, stop=record.steps),
        *(Phase(start=item.from_step, stop=item.to_step) for item in record.extensions),
    )


def phase_of(record: RunRecord, step: int) -> Phase:
    """Return the phase in which step `step` (from 0) is done."""
    return [phase for phase in phases(record) if phase.start <= step][-1]


def frozen(step: int, record: RunRecord) -> bool:
    """Return whether the weights that were loaded keep still in step `step` (from 0)."""
    return step < round(record.configuration.recipe.freeze_fraction * record.steps)


def last_step(phase: Phase, recipe: Recipe, scores: Sequence[Score]) -> int:
    """Return after how many steps the phase ends, as far as the scores tell: never without annealing."""
    found = _plateau(phase, recipe, scores)
    if found is None:
        return phase.stop
    return min(phase.stop, found + max(1, round(recipe.decay_fraction * (found - phase.start))))


def rate(step: int, phase: Phase, recipe: Recipe, scores: Sequence[Score]) -> float:
    """Return the learning rate of step `step` (from 0).

    The recipe's schedule over the phase; with `plateau` the rate is multiplied by `plateau_factor` whenever
    `plateau_epochs` measurements passed without a gain of 0.001 Dice. Once `stop_epochs` did, the rate falls linearly
    from where it was, over `decay_fraction` as many steps as were done.
    """
    known = [score for score in scores if phase.start < score.step <= step]
    value = schedule.rate(step - phase.start, phase.stop - phase.start, recipe)
    value *= _reduction(recipe, known)
    found = _plateau(phase, recipe, known)
    if found is None:
        return value
    before = [score for score in known if score.step < found]
    high = schedule.rate(found - phase.start, phase.stop - phase.start, recipe) * _reduction(recipe, before)
    end = last_step(phase, recipe, known)
    return min(value, high * (end - step) / max(1, end - found))


def _plateau(phase: Phase, recipe: Recipe, scores: Sequence[Score]) -> int | None:
    """Return the step at which `stop_epochs` measurements in a row had brought nothing, or None."""
    if recipe.stop_epochs == 0:
        return None
    best, waited = float("-inf"), 0
    for score in scores:
        if not phase.start < score.step < phase.stop:
            continue
        gained = score.dice > best + MIN_GAIN
        best, waited = (score.dice, 0) if gained else (best, waited + 1)
        if waited >= recipe.stop_epochs:
            return score.step
    return None


def _reduction(recipe: Recipe, scores: Sequence[Score]) -> float:
    if recipe.schedule != "plateau":
        return 1.0
    best, waited, factor = float("-inf"), 0, 1.0
    for score in scores:
        gained = score.dice > best + MIN_GAIN
        best, waited = (score.dice, 0) if gained else (best, waited + 1)
        if waited >= recipe.plateau_epochs:
            waited, factor = 0, factor * recipe.plateau_factor
    return factor
