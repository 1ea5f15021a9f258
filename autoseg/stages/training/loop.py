"""Training one model from its first step, or from where it stopped, to the file that predicts."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import autoseg
from autoseg.compute import devices
from autoseg.compute.allocator import keep_freed_memory
from autoseg.locks import locked
from autoseg.networks import weights
from autoseg.records.errors import DataError, ResourceError
from autoseg.records.model import ModelId, RunRecord, TrainedModel
from autoseg.records.plan import Plan
from autoseg.stages.training import (
    asking,
    checkpoint,
    course,
    extending,
    feeding,
    history,
    interruption,
    measuring,
    pretrained,
    resolve,
    steering,
    team,
)
from autoseg.stages.training import learner as learners
from autoseg.stages.training import tensorboard as events
from autoseg.stages.training.asking import Terms, TrainingSet
from autoseg.stages.training.checkpoint import Position
from autoseg.stages.training.course import Course, Progress
from autoseg.stages.training.free_memory import used_memory_gb
from autoseg.stages.training.learner import Learner
from autoseg.stages.training.request import Request, check_same
from autoseg.stages.training.team import Team
from autoseg.storage import read_record, sha256_of, write_record

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 90.0
CURVES_SECONDS = 60.0
UNREAD_LOSSES = 25

Tell = Callable[[Progress], None]


def fit(
    plan: Plan,
    model: ModelId,
    folder: Path,
    data: TrainingSet,
    *,
    terms: Terms | None = None,
    on_progress: Tell | None = None,
) -> Path:
    """Train one model and return the path of its weights; a run that was stopped goes on where it stopped.

    What is measured at the start (precision, memory format, number of steps) is written into `run.json` and obeyed
    by every later call. On a CPU a resumed run ends with the same bytes as an unbroken one.

    Args:
        plan: Holds the configuration that `model` names.
        model: Which model; its seed keys the initial weights and every random draw.
        folder: Of this run alone; held by a lock while it trains.
        data: What it is trained on.
        terms: How; None: as planned, on the CPU.
        on_progress: Called after every step; a KeyboardInterrupt that it raises stops the run with a checkpoint.

    Returns:
        `folder/model.safetensors`; at once if the run had ended already.

    Raises:
        UsageError: There is no such device, or a setting means nothing.
        UserError: The folder holds a run of something else, a case cannot be read, or the loss stays non-finite.
        ResourceError: Another run holds the folder; memory or disk do not suffice.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGUSR1 came; a checkpoint was written.
    """
    request = asking.request(plan, model, folder, data, terms or Terms())
    if request.tensorboard:
        events.check()
    team.check(request.ranks, request.ranks, device=request.device, folder=folder)
    with locked(folder), interruption.watched() as watch, _own_state_of_torch(request.device):
        if not _ended(folder, request):
            request = asking.set_apart(asking.checked(request), folder, data.facts)
            _run(request, folder, watch=watch, tell=on_progress or _silent)
        return folder / "model.safetensors"


@dataclass(frozen=True)
class _Run:
    """What stays the same from the first step to the last."""

    request: Request
    record: RunRecord
    folder: Path
    learner: Learner
    team: Team | None = None
    show: Callable[[history.Epoch], None] | None = None

    @property
    def identity(self) -> str:
        return resolve.identity(self.record)

    def end(self, now: Course) -> int:
        """Return after how many steps the run ends, as far as is known now."""
        return steering.last_step(steering.phases(self.record)[-1], self.record.configuration.recipe, now.scores)


def _ended(folder: Path, request: Request) -> bool:
    """Return whether the folder holds the finished model that is asked for; refuse one of something else."""
    if (folder / "run.json").exists():
        record = read_record(folder / "run.json", RunRecord)
        check_same(record, request, folder)
        if request.extension is not None:
            record = record.model_copy(update={"extensions": (*record.extensions, request.extension)})
            write_record(folder / "run.json", record)
    elif (folder / "model.json").exists():
        raise DataError(
            "the record of the run is missing, so nobody can tell what the model was trained on",
            file=folder / "run.json",
            fix="Restore the file, or remove the folder to train anew.",
        )
    if not ((folder / "model.json").exists() and (folder / "model.safetensors").exists()):
        return False
    return not extending.pending(record, read_record(folder / "model.json", TrainedModel).steps)


def _run(request: Request, folder: Path, *, watch: interruption.Watch, tell: Tell) -> None:
    try:
        record = _record(request, folder)
        given = pretrained.again(record.pretrained) if record.pretrained and request.given is None else request.given
        request = replace(request, class_weights=record.class_weights, given=given)
        with team.gathered(request, record, folder) as others:
            learner = learners.build(
                request,
                precision=record.precision,
                memory_format=record.memory_format,
                ranks=others.here if others else None,
            )
            run = _Run(request, record, folder, learner, others)
            start = checkpoint.load(folder, learner, identity=run.identity) or Position()
            history.rewind(folder, start.step)
            watch.deferred = True
            with _shown(run, start) as run:
                end = _train(run, course.begin(start), watch, tell)
        _finish(run, end)
        _stop_if_asked(watch)
    except torch.OutOfMemoryError:
        raise ResourceError(
            f"the memory of {request.device} did not suffice in the middle of training",
            file=folder,
            fix="Free the device and run the same command again: it goes on from the last checkpoint. If it "
            "happens again, plan with a smaller --memory-gb.",
            code="out_of_memory",
        ) from None


@contextlib.contextmanager
def _shown(run: _Run, start: Position) -> Iterator[_Run]:
    if not run.request.tensorboard:
        yield run
        return
    with events.written(run.folder, step=start.step) as show:
        yield replace(run, show=show)


def _record(request: Request, folder: Path) -> RunRecord:
    """Return what was resolved when the run began, or resolve it now; the number of threads is put in force."""
    path = folder / "run.json"
    if path.exists():
        record = read_record(path, RunRecord)
        if record.torch_version != torch.__version__:
            log.warning(
                "%s: begun with torch %s, going on with %s: the last digits of the result may differ",
                folder,
                record.torch_version,
                torch.__version__,
            )
    else:
        keep_freed_memory()  # before steps are timed
        record = resolve.resolve(request)
        if record.pretrained is not None:
            log.info("%s: %s", record.pretrained.file, record.pretrained.line)
        write_record(path, record)
    devices.set_threads(team.threads_each(record, request))
    return record


def _train(run: _Run, now: Course, watch: interruption.Watch, tell: Tell) -> Position:
    """Do the steps that are left and return where the run ended; everything it leaves but the model is written."""
    record, request = run.record, run.request
    rules = replace(resolve.sampling_rules(request, record.batch_size), ranks=request.ranks)
    ahead = range(now.step, steering.phases(record)[-1].stop)
    saved = drawn = time.perf_counter()
    with contextlib.closing(feeding.batches(rules, request.cases, ahead, device=request.device)) as batches:
        for number in ahead:
            if number >= run.end(now):
                break
            batch, wait_seconds = next(batches)
            _one_step(run, now, number, batch=batch, wait_seconds=wait_seconds)
            try:
                tell(course.progress(now, record.model, run.end(now)))
                _stop_if_asked(watch)
            except KeyboardInterrupt:
                _save(run, now)
                raise
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                _save(run, now)
                course.set_aside(now)
                saved = time.perf_counter()
            if not now.losses and time.perf_counter() - drawn > CURVES_SECONDS:
                history.draw_curves(run.folder, title=record.model.key())
                course.set_aside(now)
                drawn = time.perf_counter()
    return _save(run, now) if now.step > now.start.step else now.start


def _one_step(run: _Run, now: Course, number: int, *, batch: feeding.Batch, wait_seconds: float) -> None:
    """Do step `number`; read losses back when it is time, and write the history's line at the end of an epoch."""
    record = run.record
    phase, recipe = steering.phase_of(record, number), record.configuration.recipe
    rate = steering.rate(number, phase, recipe, now.scores)
    frozen = steering.frozen(number, record)
    if run.team is not None:
        run.team.announce(number, rate, frozen=frozen)
    loss = learners.advance(run.learner, batch, number=number, rate=rate, frozen=frozen)
    # On a CPU reading costs nothing; elsewhere it waits until the device has caught up.
    group = 1 if loss.device.type == "cpu" else UNREAD_LOSSES
    length = resolve.epoch_length(record.configuration, record.steps, record.batch_size)
    ends = now.step + 1 in {phase.stop, run.end(now)} or (now.step + 1) % length == 0
    course.note(now, loss, batch.cases, wait_seconds=wait_seconds)
    if ends or len(now.unread) >= group:
        course.read(now)
    if ends:
        epoch = -(-now.step // length)
        line = course.close_epoch(now, epoch=epoch, rate=rate, batch_size=record.batch_size)
        line = line.model_copy(update=_measure(run, now, batch))
        history.append(run.folder, line)
        if run.show is not None:
            run.show(line)
        course.set_aside(now)


def _measure(run: _Run, now: Course, batch: feeding.Batch) -> dict[str, Any]:
    """Measure Dice on the patients set apart, else on the batch at hand, and return it for the history's line."""
    request, labels = run.request, run.request.labels
    batches: Sequence[feeding.Batch] = (batch,)
    if request.monitored:
        rules = resolve.sampling_rules(request, run.record.batch_size)
        length = resolve.epoch_length(run.record.configuration, run.record.steps, run.record.batch_size)
        batches = tuple(measuring.monitored(rules, request.monitored, epoch_length=length, device=request.device))
    now.dice = measuring.dice(run.learner, batches, labels)
    now.memory_gb = used_memory_gb(request.device)
    found: dict[str, Any] = {"dice": measuring.mean(now.dice), "by_class": now.dice}
    if run.learner.average is not None:
        with measuring.averaged(run.learner):
            found["average_dice"] = measuring.mean(measuring.dice(run.learner, batches, labels))
    if request.monitored:
        # What predicts is what is steered by.
        value = found.get("average_dice", found["dice"])
        now.scores.append(steering.Score(step=now.step, dice=0.0 if math.isnan(value) else value))
        found["measured_on"] = "patients"
    return found


def _stop_if_asked(watch: interruption.Watch) -> None:
    if watch.asked:
        raise KeyboardInterrupt


def _save(run: _Run, now: Course) -> Position:
    course.read(now)
    position = course.position(now)
    checkpoint.save(run.folder, run.learner, position, identity=run.identity)
    return position


def _finish(run: _Run, end: Position) -> None:
    """Write the model; `model.json` comes last, because it says that everything else is there."""
    tensors = learners.weights(run.learner)
    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise DataError(
            f"the trained weights are not finite ({wrong[0]})",
            file=run.folder,
            fix="Remove the folder and train again with a lower --set learning_rate under a --variant.",
            code="not_finite",
        )
    path = run.folder / "model.safetensors"
    weights.save(path, tensors, {"model": run.record.model.key()})
    history.write_csv(run.folder)
    history.draw_curves(run.folder, title=run.record.model.key())
    trained = TrainedModel(
        model=run.record.model,
        plan_digest=run.request.plan_digest,
        weights_sha256=sha256_of(path),
        steps=end.step,
        seconds=round(end.seconds, 3),
        configuration=run.record.configuration,
        version=autoseg.__version__,
    )
    write_record(run.folder / "model.json", trained)


@contextlib.contextmanager
def _own_state_of_torch(device: str) -> Iterator[None]:
    """Leave torch's random state, threads and flags as they were found."""
    threads = torch.get_num_threads()
    cards = list(range(torch.cuda.device_count())) if device.startswith("cuda") else []
    try:
        # Every step has the same shapes, so looking for the fastest convolution once pays.
        with torch.random.fork_rng(devices=cards), torch.backends.cudnn.flags(enabled=True, benchmark=True):
            yield
    finally:
        torch.set_num_threads(threads)


def _silent(progress: Progress) -> None:
    """Say nothing."""
