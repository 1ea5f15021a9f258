"""Further ranks of a run: processes that each compute their share of every batch, and do as rank 0 says.

Rank 0 is the process that the user started. It alone steers, measures, writes and speaks; the others hold nothing that
a run needs, so that it can end them at any time, and they end themselves when it is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from autoseg.compute import devices
from autoseg.compute import ranks as distributed
from autoseg.compute.ranks import Ranks
from autoseg.images import store
from autoseg.records.errors import ResourceError, UsageError, UserError
from autoseg.records.model import RunRecord
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training import checkpoint, feeding, interruption, learner, pretrained, resolve, sampling, steering
from autoseg.stages.training.request import Request

# How long rank 0 may take to notice by itself that another rank has died.
GRACE_SECONDS = 30.0
READY = "ready"
# How gloo says that the rank at the other end is gone.
LOST = ("Connection closed", "Connection reset")
ARRAYS = ("image", "labels", "previous")


@dataclass(frozen=True)
class Team:
    """The ranks as rank 0 sees them.

    Attributes:
        here: Rank 0 itself.
        processes, connections: Of the others.
    """

    here: Ranks
    processes: Sequence[Any]
    connections: Sequence[Connection]
    closing: threading.Event = field(default_factory=threading.Event)

    def announce(self, number: int, rate: float, *, frozen: bool) -> None:
        """Tell the others to do step `number` at this rate; it begins when all do it."""
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it has died: the step says so
                connection.send((number, rate, frozen))


def check(ranks: int, batch_size: int, *, device: str, folder: Path) -> None:
    """Refuse a number of ranks that cannot share the batch, or that there are no cards for.

    Raises:
        UsageError: Which, and what would do.
    """
    if ranks == 1:
        return
    cards = torch.cuda.device_count()
    if torch.device(device).type == "cuda" and ranks > cards:
        raise UsageError(
            f"{ranks} GPUs are asked for and there are {cards}", fix=f"Use --gpus {cards}.", code="no_device"
        )
    if torch.device(device).type not in ("cpu", "cuda"):
        raise UsageError(f"{device} has one rank only", fix="Leave out --gpus and --ranks.")
    if batch_size % ranks:
        raise UsageError(
            f"a batch of {batch_size} samples cannot be shared by {ranks} ranks",
            file=folder,
            fix=f"The run was begun with another number; use one that divides {batch_size}.",
            code="ranks_mismatch",
        )


def device_of(device: str, rank: int) -> str:
    """Return the device of a rank: a card of its own, or the CPU that all share."""
    return f"cuda:{rank}" if torch.device(device).type == "cuda" else device


@contextlib.contextmanager
def gathered(request: Request, record: RunRecord, folder: Path) -> Iterator[Team | None]:
    """Start the other ranks and give the team; None where the run has one rank. At the end they are ended.

    Raises:
        ResourceError: A rank died; the run goes on from its last checkpoint when the command is given again.
        UserError: What went wrong in another rank.
    """
    if request.ranks == 1:
        yield None
        return
    check(request.ranks, record.batch_size, device=request.device, folder=folder)
    with tempfile.TemporaryDirectory(prefix="autoseg-ranks-") as place:
        team = _started(request, folder, Path(place) / "meeting")
        guard = threading.Thread(target=_guard, args=(team,), daemon=True, name="autoseg-ranks")
        guard.start()
        try:
            _wait_until_ready(team)
            distributed.join(Path(place) / "meeting", 0, request.ranks, device=device_of(request.device, 0))
            yield team
        except RuntimeError as error:  # how torch says that a rank does not answer
            raise _reason(team, error) from error
        finally:
            team.closing.set()
            for process in team.processes:
                process.kill()  # it holds nothing that anybody waits for
                process.join()
            distributed.leave()
            guard.join()


def _started(request: Request, folder: Path, meeting: Path) -> Team:
    # Spawned, not forked: torch's threads and a card's state do not survive a fork.
    context = multiprocessing.get_context("spawn")
    processes, connections = [], []
    for rank in range(1, request.ranks):
        here, there = context.Pipe()
        mine = replace(
            request,
            cases=[_portable(case) for case in request.stored if case.id in {item.id for item in request.cases}],
            device=device_of(request.device, rank),
            stored=(),
            monitored=(),
            given=None,
        )
        process = context.Process(
            target=_serve, args=(there, mine, folder, rank, meeting), daemon=True, name=f"autoseg-rank-{rank}"
        )
        process.start()
        there.close()
        processes.append(process)
        connections.append(here)
    return Team(Ranks(0, request.ranks), processes, connections)


def _wait_until_ready(team: Team) -> None:
    """Return when all others have what they need; before that nobody waits for anybody."""
    for connection in team.connections:
        try:
            told = connection.recv()
        except (EOFError, OSError):
            raise RuntimeError("a rank ended before it began") from None
        if told != READY:
            raise told if isinstance(told, UserError) else RuntimeError(told)


def _guard(team: Team) -> None:
    """End this process where another rank has died and the step that waits for it does not notice."""
    gone: float | None = None
    while not team.closing.wait(0.5):
        dead = wait_for([process.sentinel for process in team.processes], timeout=0)
        gone = (gone or time.monotonic()) if dead else None
        if gone is not None and time.monotonic() - gone > GRACE_SECONDS:
            os.kill(os.getpid(), signal.SIGKILL)  # a card's queue that waits for ever hears nothing else


def _reason(team: Team, error: RuntimeError) -> Exception:
    """Return what another rank said before it ended, else that it died, else the error as it is."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for number, connection in enumerate(team.connections, start=1):
            with contextlib.suppress(EOFError, OSError):
                if connection.poll():
                    told = connection.recv()
                    return told if isinstance(told, UserError) else RuntimeError(f"rank {number}: {told}")
        dead = wait_for([process.sentinel for process in team.processes], timeout=0.2)
        for number, process in enumerate(team.processes, start=1):
            if process.sentinel in dead:
                process.join()  # its files are closed a moment before it has an exit code
                return _died(number, process.exitcode)
    return error


def _died(number: int, code: int | None) -> ResourceError:
    return ResourceError(
        f"rank {number} of the run has died ({_end(code)}); the others were stopped",
        fix="Run the same command again: it goes on from the last checkpoint. Most often memory was short.",
        code="rank_died",
    )


def _end(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name


def _portable(case: PreprocessedCase) -> PreprocessedCase:
    """Return the case with the paths of its files in the place of arrays that lie in files."""
    arrays = {name: getattr(case, name) for name in ARRAYS}
    paths = {name: Path(array.urlpath) for name, array in arrays.items() if getattr(array, "urlpath", None)}
    return replace(case, **paths)  # type: ignore[arg-type]


def _opened(case: PreprocessedCase) -> PreprocessedCase:
    arrays = {name: getattr(case, name) for name in ARRAYS}
    return replace(case, **{name: store.open_array(array) for name, array in arrays.items() if isinstance(array, Path)})


def _serve(connection: Connection, request: Request, folder: Path, rank: int, meeting: Path) -> None:
    """Be a rank: build the same learner, go on from the same checkpoint, and do the steps that are announced."""
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides what becomes of the others
    threading.Thread(target=_follow, daemon=True).start()
    try:
        _work(connection, request, folder, rank, meeting)
    except EOFError:
        return
    except UserError as error:
        connection.send(error)
    except MemoryError as error:
        connection.send(ResourceError(f"rank {rank}: there is not enough memory ({error})", fix="Use fewer ranks."))
    except Exception as error:  # a rank that died is most often what another one's collective ends with
        with contextlib.suppress(OSError):
            if not any(words in str(error) for words in LOST):
                connection.send(f"{type(error).__name__}: {error}")


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work(connection: Connection, request: Request, folder: Path, rank: int, meeting: Path) -> None:
    record = resolve.read(folder)
    devices.set_threads(threads_each(record, request))
    cases = sampling.hold([_opened(case) for case in request.cases], resolve.held_bytes(request.ranks))
    given = pretrained.again(record.pretrained) if record.pretrained else None
    connection.send(READY)
    ranks = distributed.join(meeting, rank, request.ranks, device=request.device)
    request = replace(request, cases=cases, given=given, class_weights=record.class_weights)
    pupil = learner.build(request, precision=record.precision, memory_format=record.memory_format, ranks=ranks)
    start = checkpoint.load(folder, pupil, identity=resolve.identity(record))
    rules = replace(resolve.sampling_rules(request, record.batch_size), rank=rank, ranks=request.ranks)
    steps = range(start.step if start else 0, steering.phases(record)[-1].stop)
    with contextlib.closing(feeding.batches(rules, cases, steps, device=request.device)) as batches:
        for wanted, (batch, _) in zip(steps, batches, strict=False):
            number, rate, frozen = connection.recv()
            if number != wanted:
                raise RuntimeError(f"step {number} was announced and {wanted} is ready")
            learner.advance(pupil, batch, number=number, rate=rate, frozen=frozen)


def threads_each(record: RunRecord, request: Request) -> int:
    """Return the threads of one rank: those of the run, shared by the ranks of one processor."""
    return max(1, record.threads // request.ranks) if request.device == "cpu" else record.threads
