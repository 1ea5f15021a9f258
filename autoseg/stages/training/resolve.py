"""What is decided once, before the first step, by measuring: precision, memory format, batch, number of steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import autoseg
from autoseg.compute import devices
from autoseg.records.configuration import Configuration
from autoseg.records.errors import ResourceError
from autoseg.records.model import Pretrained, RunRecord
from autoseg.stages.training import feeding, learner, sampling
from autoseg.stages.training.centring import Centres
from autoseg.stages.training.free_memory import free_memory_bytes
from autoseg.stages.training.request import Request
from autoseg.storage import read_record

log = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "float16"]
Format = Literal["contiguous", "channels_last"]
FORMATS: tuple[Format, ...] = ("contiguous", "channels_last")
MIN_STEPS = 20
LOG_LINES = 20
HELD_FRACTION = 0.25
TOO_SLOW = 2.0
USABLE_BUDGET_FRACTION = 0.97
CLOSING_SECONDS = 2.0
PACE_STEPS = (3, 200)
PACE_SECONDS = 5.0
# Measuring on patients set apart: a fifth as many forward passes as there are steps.
MONITOR_FACTOR = 1.08


@dataclass(frozen=True)
class Trial:
    """The fastest way of computing a step that was found: seconds a step without and with its batch's making;
    and what became of the weights to start from."""

    precision: Precision
    memory_format: Format
    compute_seconds: float
    step_seconds: float
    pretrained: Pretrained | None


def resolve(request: Request) -> RunRecord:
    """Return what the whole run is going to obey.

    Where a card's memory does not suffice, the batch is halved until it does. The times measured are those of this
    machine in its present state; the run that follows takes exactly `steps` steps, whatever they take.

    Raises:
        ResourceError: A batch of one sample does not fit the memory.
        UserError: A case cannot be read.
    """
    trial, batch_size = _fitting(request)
    batch_size *= request.ranks
    # Ranks of one processor share what the trial had for itself.
    pace = trial.step_seconds * (request.ranks if request.device == "cpu" else 1)
    steps = count_steps(
        request.configuration,
        ranks=request.ranks,
        step_seconds=pace * (MONITOR_FACTOR if request.monitored else 1.0),
        budget_seconds=request.budget_seconds,
        spent_seconds=time.perf_counter() - request.began,
    )
    planned = request.configuration.batch_size * request.ranks
    reason = "" if batch_size == planned else f"{planned} samples did not fit the memory of {request.device}"
    return RunRecord(
        model=request.model,
        configuration_digest=request.configuration.digest(),
        configuration=request.configuration,
        labels=request.labels,
        cases_digest=request.cases_digest,
        settings=dict(request.settings),
        steps=steps,
        batch_size=batch_size,
        batch_reason=reason,
        precision=trial.precision,
        memory_format=trial.memory_format,
        compiled=False,
        threads=torch.get_num_threads(),
        step_seconds=trial.step_seconds,
        budget_seconds=request.budget_seconds or 0.0,
        torch_version=torch.__version__,
        version=autoseg.__version__,
        class_weights=request.class_weights,
        pretrained=trial.pretrained,
        monitored=tuple(case.id for case in request.monitored),
    )


def count_steps(
    configuration: Configuration,
    *,
    step_seconds: float,
    budget_seconds: float | None,
    spent_seconds: float,
    ranks: int = 1,
) -> int:
    """Return how many steps a run has: the recipe's without a budget, else what fits in it, at least 20.

    The recipe's steps are of the planned batch. Where several ranks make a larger one, fewer steps see as many samples.
    3 % of the budget and two seconds are kept back for checkpoints, curves and the final file.
    """
    recipe = configuration.recipe
    if budget_seconds is None:
        return math.ceil(recipe.epochs * recipe.steps_per_epoch / ranks)
    left = USABLE_BUDGET_FRACTION * budget_seconds - CLOSING_SECONDS - spent_seconds
    return max(MIN_STEPS, int(left / step_seconds))


def epoch_length(configuration: Configuration, steps: int, batch_size: int) -> int:
    """Return the steps between two lines of the history: as many samples as the recipe's epoch has.

    Less in a run that would see few lines.
    """
    larger = max(1, batch_size // configuration.batch_size)
    return max(1, min(math.ceil(configuration.recipe.steps_per_epoch / larger), math.ceil(steps / LOG_LINES)))


def identity(record: RunRecord) -> str:
    """Return what tells the runs of one folder apart; an extension is the same run."""
    return record.model_copy(update={"extensions": ()}).digest()


def read(folder: Path) -> RunRecord:
    """Return what was resolved when the run in a folder began."""
    return read_record(folder / "run.json", RunRecord)


def held_bytes(ranks: int) -> float:
    """Return how much memory the cases of one of the ranks of this machine may take."""
    return HELD_FRACTION * free_memory_bytes() / ranks


def sampling_rules(request: Request, batch_size: int) -> sampling.Rules:
    """Return the rules by which a run's batches are drawn."""
    configuration = request.configuration
    return sampling.Rules(
        seed=request.model.seed,
        batch_size=batch_size,
        patch_shape=configuration.patch_shape,
        foreground_fraction=configuration.recipe.foreground_fraction,
        structures=len(request.labels.structures),
        mirror_axes=configuration.mirror_axes,
        augmentation=configuration.recipe.augmentation,
        optional=request.optional,
        channels=len(configuration.normalizations),
        previous=configuration.previous is not None,
        context_slices=configuration.context_slices,
        sides=configuration.sides,
        centres=_centres(configuration),
    )


def _centres(configuration: Configuration) -> Centres | None:
    if configuration.regions is None:
        return None
    recipe = configuration.recipe
    return Centres(recipe.lesion_fraction, recipe.rejection_fraction, recipe.jitter_fraction)


def precisions(request: Request) -> tuple[Precision, ...]:
    """Return the precisions worth a trial: the recipe's, or with `auto` float32 and what the device is fast in."""
    wanted = request.configuration.recipe.precision
    if wanted != "auto":
        return (wanted,)
    if fast_bfloat16(request.device):
        return ("bfloat16", "float32")
    return ("float16", "float32") if torch.device(request.device).type == "cuda" else ("float32",)


def fast_bfloat16(device: str) -> bool:
    """Return whether this machine's device computes bfloat16 in hardware."""
    return bool(devices.find(device).fast_bfloat16)


def _fitting(request: Request) -> tuple[Trial, int]:
    """Measure with the planned batch, and with half of it as long as memory runs out."""
    batch_size = request.configuration.batch_size
    while True:
        try:
            return _measure(request, batch_size), batch_size
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise ResourceError(
                    "not even one sample fits the memory while training",
                    file=request.device,
                    fix="Plan again with a smaller --memory-gb; other programs may be using the device too.",
                    code="out_of_memory",
                ) from None
        # Beyond the except block, so that the failed step's tensors are free.
        torch.cuda.empty_cache()
        log.warning("a batch of %d does not fit the memory of %s; trying half of it", batch_size, request.device)
        batch_size //= 2


def _measure(request: Request, batch_size: int) -> Trial:
    rules = sampling_rules(request, batch_size)
    batch = next(feeding.batches(rules, request.cases, [0], device=request.device))[0]
    best: tuple[float, Precision, Format] | None = None
    best_first = math.inf
    for precision, memory_format in _candidates(request):
        pupil = learner.build(request, precision=precision, memory_format=memory_format)
        first = _timed(pupil, batch, 0)
        if first <= TOO_SLOW * best_first:
            # Short steps are measured twice: the first after warming up still holds chance.
            seconds = min(_timed(pupil, batch, number) for number in range(1, 2 if first > 2 else 3))
            best_first = min(best_first, first)
            if best is None or seconds < best[0]:
                best = (seconds, precision, memory_format)
        del pupil
    assert best is not None
    seconds, precision, memory_format = best
    pupil = learner.build(request, precision=precision, memory_format=memory_format)
    pace = _pace(request, rules, pupil)
    log.info("%s, %s: %.3f s a step, %.3f s with its batch", precision, memory_format, seconds, pace)
    return Trial(precision, memory_format, seconds, pace, pupil.pretrained)


def _candidates(request: Request) -> Iterator[tuple[Precision, Format]]:
    for precision in precisions(request):
        for memory_format in FORMATS:
            yield precision, memory_format


def _pace(request: Request, rules: sampling.Rules, pupil: learner.Learner) -> float:
    """Return seconds a step with reading and augmentation, as they overlap in the run itself."""
    least, most = PACE_STEPS
    # Only a budget depends on it; else it tells the user how long the run will take.
    limit = PACE_SECONDS * (0.2 if request.budget_seconds is None else min(1.0, request.budget_seconds / 250))
    begun, done = math.nan, 0
    for number, (batch, _) in enumerate(feeding.batches(rules, request.cases, range(most + 1), device=request.device)):
        _timed(pupil, batch, number)
        if number == 0:  # the first one waits for a batch that the others find ready
            begun = time.perf_counter()
            continue
        done = number
        if done >= least and time.perf_counter() - begun > limit:
            break
    return (time.perf_counter() - begun) / done


def _timed(pupil: learner.Learner, batch: feeding.Batch, number: int) -> float:
    begun = time.perf_counter()
    learner.advance(pupil, batch, number=number, rate=0.0).item()  # reading the loss waits for the device
    return time.perf_counter() - begun
