"""Checkpoints that a run resumes from exactly: two files in turn, so that one is whole whatever happens."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from autoseg.networks import weights
from autoseg.records.errors import DataError
from autoseg.records.record import Record
from autoseg.stages.training import learner as learners
from autoseg.stages.training.learner import Learner
from autoseg.stages.training.steering import Score

log = logging.getLogger(__name__)


class Position(Record):
    """Where in the run a checkpoint stands.

    Attributes:
        step: Steps done.
        seconds: Wall time of training so far, all pieces of the run together.
        losses: Of the steps since the last line of the history; nan for a skipped step.
        epoch_seconds, waited_seconds: Wall time since that line, and how much of it was waiting for batches.
        bad_in_row: Skipped steps just before.
        scores: What was measured on the patients set apart.
    """

    step: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()
    epoch_seconds: float = 0.0
    waited_seconds: float = 0.0
    bad_in_row: int = 0
    scores: tuple[Score, ...] = ()


class _Note(Record):
    """What a checkpoint says of itself; `identity` tells the runs of one folder apart."""

    identity: str
    position: Position
    scaler: dict[str, float | int] = {}


def save(folder: Path, learner: Learner, position: Position, *, identity: str) -> Path:
    """Write a checkpoint over the older of the two and return its path.

    Raises:
        ResourceError: The disk is full; both old files stay.
    """
    path = min(_files(folder), key=lambda item: item.stat().st_mtime_ns if item.exists() else 0)
    tensors, plain = learners.state(learner)
    note = _Note(identity=identity, position=position, scaler=plain)
    weights.save(path, tensors, {"checkpoint": note.to_json()})
    return path


def load(folder: Path, learner: Learner, *, identity: str) -> Position | None:
    """Put the newest whole checkpoint of this run into `learner` and return its place; None when there is none.

    One that is damaged, or of another run, is passed over with a warning.
    """
    found = [item for path in _files(folder) if path.exists() and (item := _read(path, identity)) is not None]
    for note, tensors in sorted(found, key=lambda item: item[0].position.step, reverse=True):
        try:
            learners.restore(learner, tensors, dict(note.scaler))
        except (KeyError, RuntimeError, ValueError) as error:
            log.warning("%s: the checkpoint of step %d does not fit: %s", folder, note.position.step, error)
            continue
        log.info("resuming after step %d", note.position.step)
        return note.position
    return None


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "checkpoint.a.safetensors", folder / "checkpoint.b.safetensors"


def _read(path: Path, identity: str) -> tuple[_Note, dict[str, Tensor]] | None:
    try:
        tensors, metadata = weights.load(path)
        note = _Note.parse(metadata.get("checkpoint", ""), file=str(path))
    except DataError as error:
        log.warning("%s: %s. Falling back to the checkpoint before it, or to the start.", path, error.what)
        return None
    if note.identity != identity:
        log.warning("%s: is of another run; it is passed over", path)
        return None
    return note, tensors
