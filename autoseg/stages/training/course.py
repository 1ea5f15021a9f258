"""The book-keeping of a run: losses read back in groups, seconds, waiting, and what is told to the user."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoseg.records.errors import UserError
from autoseg.records.model import ModelId
from autoseg.stages.training.checkpoint import Position
from autoseg.stages.training.history import Epoch
from autoseg.stages.training.pace import LATEST, pace
from autoseg.stages.training.steering import Score

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 5


@dataclass(frozen=True)
class Progress:
    """How far a run is, told after every step.

    Attributes:
        step: Steps done.
        loss: The latest finite one that was read back from the device; nan before the first.
        step_seconds: Of the latest steps (`pace.pace`), waiting included, what is done beside them left out.
        wait_fraction: Share of the time in which the device waited for a batch, in this piece of the run.
        seconds_left: Expected: the steps to come at that pace, and in proportion what is done beside them.
        measured_steps: Of this piece of the run, so many as the device has been waited for: what the pace rests on.
        dice: Of each structure or region as measured last; empty before the first epoch ends.
        memory_gb: The most that was used so far: of the card, or of the process on a CPU.
    """

    model: ModelId
    step: int
    steps: int
    loss: float
    step_seconds: float
    wait_fraction: float
    seconds_left: float
    dice: dict[str, float] = field(default_factory=dict)
    memory_gb: float = 0.0
    measured_steps: int = 0


@dataclass
class Course:
    """Where a run is; changed in place after every step.

    Attributes:
        start: Where this piece of the run began.
        step: Steps done.
        began, noted, waited_for: `time.perf_counter()` of this piece's beginning, of what was last noted, and of when
            the device had last done all it was asked to.
        waited: Seconds of waiting in this piece.
        latest_loss: As in Progress.
        losses, epoch_seconds, waited_seconds, bad_in_row: As in Position.
        scores: As in Position.
        dice, memory_gb, measured_steps: As in Progress.
        paces: Seconds a step between readings of the device, the latest.
        aside_seconds, aside_step: What this piece did beside its steps, and how many steps it had done by then.
        unread: Losses still on the device, with their batches' case ids.
    """

    start: Position
    step: int
    began: float
    noted: float
    losses: list[float]
    epoch_seconds: float
    waited_seconds: float
    bad_in_row: int
    waited: float = 0.0
    latest_loss: float = math.nan
    scores: list[Score] = field(default_factory=list)
    dice: dict[str, float] = field(default_factory=dict)
    memory_gb: float = 0.0
    measured_steps: int = 0
    waited_for: float = 0.0
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    aside_seconds: float = 0.0
    aside_step: int = 0
    unread: list[tuple[Tensor, tuple[str, ...]]] = field(default_factory=list)


def begin(start: Position) -> Course:
    """Return the course of a run that goes on from `start`."""
    now = time.perf_counter()
    return Course(
        start=start,
        step=start.step,
        began=now,
        noted=now,
        waited_for=now,
        losses=list(start.losses),
        epoch_seconds=start.epoch_seconds,
        waited_seconds=start.waited_seconds,
        bad_in_row=start.bad_in_row,
        scores=list(start.scores),
    )


def note(course: Course, loss: Tensor, cases: tuple[str, ...], *, wait_seconds: float) -> None:
    """Count one step; its loss stays on the device until `read`."""
    _pass(course)
    course.step += 1
    course.waited += wait_seconds
    course.waited_seconds += wait_seconds
    course.unread.append((loss, cases))


def set_aside(course: Course) -> None:
    """Count what was done since the last step, or since this was called last, as no part of a step's time.

    To be called after measuring, checkpoints and curves.
    """
    course.aside_seconds += _pass(course)
    course.aside_step = course.step - course.start.step
    course.waited_for = course.noted


def _pass(course: Course) -> float:
    """Let the time go on to now, and return the seconds that went by."""
    now = time.perf_counter()
    passed = now - course.noted
    course.epoch_seconds += passed
    course.noted = now
    return passed


def read(course: Course) -> None:
    """Read the waiting losses back and look for those that are not finite.

    Raises:
        UserError: More than five steps in a row had to be skipped.
    """
    if not course.unread:
        return
    values = torch.stack([loss for loss, _ in course.unread]).tolist()
    batches = [cases for _, cases in course.unread]
    course.unread = []
    # Only now has the device done what it was asked to.
    _pass(course)
    course.paces.append((course.noted - course.waited_for) / len(values))
    course.waited_for = course.noted
    course.measured_steps = course.step - course.start.step
    first = course.step - len(values) + 1
    for step, value, cases in zip(range(first, course.step + 1), values, batches, strict=True):
        course.losses.append(value)
        if math.isfinite(value):
            course.bad_in_row, course.latest_loss = 0, value
            continue
        course.bad_in_row += 1
        log.warning("step %d: loss or gradient is not finite; skipped (cases %s)", step, ", ".join(cases))
        if course.bad_in_row > MAX_BAD_STEPS:
            raise _hopeless(course.bad_in_row, step, cases)


def position(course: Course) -> Position:
    """Return what a checkpoint has to know of the course; every loss must have been read."""
    return Position(
        step=course.step,
        seconds=course.start.seconds + time.perf_counter() - course.began,
        losses=tuple(course.losses),
        epoch_seconds=course.epoch_seconds,
        waited_seconds=course.waited_seconds,
        bad_in_row=course.bad_in_row,
        scores=tuple(course.scores),
    )


def close_epoch(course: Course, *, epoch: int, rate: float, batch_size: int) -> Epoch:
    """Return the history's line of the epoch that just ended, and begin the next one."""
    finite = [value for value in course.losses if math.isfinite(value)]
    line = Epoch(
        epoch=epoch,
        step=course.step,
        loss=sum(finite) / len(finite) if finite else math.nan,
        rate=rate,
        seconds=round(course.epoch_seconds, 4),
        wait_fraction=round(course.waited_seconds / max(course.epoch_seconds, 1e-9), 4),
        samples=course.step * batch_size,
        skipped=len(course.losses) - len(finite),
    )
    course.losses, course.epoch_seconds, course.waited_seconds = [], 0.0, 0.0
    return line


def progress(course: Course, model: ModelId, steps: int) -> Progress:
    """Return what is told to the user now."""
    seconds = max(course.noted - course.began, 1e-9)
    done = max(1, course.step - course.start.step)
    step_seconds = pace(list(course.paces)) if course.paces else seconds / done
    beside = course.aside_seconds / course.aside_step if course.aside_step else 0.0
    return Progress(
        model=model,
        step=course.step,
        steps=steps,
        loss=course.latest_loss,
        step_seconds=step_seconds,
        wait_fraction=course.waited / seconds,
        seconds_left=(step_seconds + beside) * (steps - course.step),
        dice=course.dice,
        memory_gb=course.memory_gb,
        measured_steps=course.measured_steps,
    )


def _hopeless(count: int, step: int, cases: tuple[str, ...]) -> UserError:
    return UserError(
        f"training stopped at step {step}: the loss or its gradient was not finite {count} times in a row "
        f"(last batch: {', '.join(cases)})",
        fix="Look at these cases with `autoseg check`; if they are sound, train a variant with a lower "
        "--set learning_rate, or with --set precision=float32.",
        code="not_finite",
    )
