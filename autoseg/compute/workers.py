"""Map a function over cases, each in a process of its own fate: an error names its case, and so does a death."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from autoseg.records.errors import ResourceError, UserError

A = TypeVar("A")
R = TypeVar("R")
Item = tuple[str, A]

log = logging.getLogger(__name__)

# What a worker may need: a large CT with its resampled copies.
BYTES_EACH = 2 * 2**30
# Below this, starting processes takes longer than they save (benchmarks/LOG.md).
SMALL_BYTES = 64 * 2**20


@dataclass
class _Worker:
    """A process and the item that it works on."""

    process: Any
    connection: Connection
    item: Item[Any]


def map_cases(
    function: Callable[[A], R], items: Sequence[Item[A]], *, workers: int | None = None, label: str = ""
) -> Iterator[tuple[str, R | UserError]]:
    """Yield (case id, `function(argument)`) for every item, in the order in which they end.

    A case that fails yields its error in place of a result, and the others go on. A case whose process dies is tried
    once more after all the others, alone; if that process dies too, the error names the signal.

    Args:
        function: Defined at the top of a module, so that a new process finds it.
        items: (case id, argument) pairs; arguments and results travel between processes.
        workers: Processes; 1 computes here; None means as many as processors and memory admit.
        label: What is done, for logs.
    """
    items = list(items)
    count = min(len(items), default_workers(len(items)) if workers is None else max(1, workers))
    if count <= 1:
        for case, argument in items:
            yield case, _settle(case, *_attempt(function, argument))
        return
    died: list[Item[A]] = []
    yield from _in_processes(function, items, count, label, died)
    for item in died:
        log.warning("%s: %s is tried once more, alone", item[0], label or "the case")
        again: list[Item[A]] = []
        yield from _in_processes(function, [item], 1, label, again, last=True)


def processors() -> int:
    """Return how many processors this process may use; a container or a scheduler can leave it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(items: int, *, bytes_each: int = BYTES_EACH) -> int:
    """Return how many processes to use: no more than items, processors, or what free memory holds."""
    there, free = processors(), free_memory_bytes()
    room = there if free is None else max(1, free // bytes_each)
    return max(1, min(items, there, room))


def suited(workers: int | None, paths: Iterable[str | os.PathLike[str]]) -> int | None:
    """Return how many processes to use for reading these files: as asked for, else one where they are small."""
    if workers is not None:
        return workers
    small = sum(os.path.getsize(path) for path in set(paths) if os.path.exists(path)) < SMALL_BYTES
    return 1 if small else None


def free_memory_bytes() -> int | None:
    """Return the memory that may still be used here, in bytes; None where the system does not say."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        log.debug("no /proc/meminfo")
    try:
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        log.debug("no memory limit of a control group")
    return max(0, min(found)) if found else None


def resident_bytes() -> int:
    """Return the memory that this process holds now, in bytes; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    except (OSError, ValueError, StopIteration):
        log.debug("no /proc/self/status")
        return 0


def _in_processes(
    function: Callable[[A], R],
    items: Sequence[Item[A]],
    count: int,
    label: str,
    died: list[Item[A]],
    *,
    last: bool = False,
) -> Iterator[tuple[str, R | UserError]]:
    """Yield results of `count` processes; items whose process died go to `died`, or yield an error when `last`."""
    waiting = deque(items)
    busy: dict[Connection, _Worker] = {}
    try:
        while waiting and len(busy) < count:
            _begin(function, waiting.popleft(), label, busy)
        while busy:
            for connection in wait(list(busy)):
                worker = busy.pop(connection)  # type: ignore[call-overload]
                case, outcome = worker.item[0], _receive(worker)
                if outcome is not None:
                    _next(worker, function, waiting, busy)
                    yield case, _settle(case, *outcome)
                    continue
                if waiting:
                    _begin(function, waiting.popleft(), label, busy)
                if last:
                    yield case, _death(worker, case)
                else:
                    log.warning("%s: %s", label or "workers", _death(worker, case))
                    died.append(worker.item)
    finally:
        for worker in busy.values():
            worker.process.kill()  # even one that is stopped or hangs; what it writes is there whole or not at all
            _end(worker)


def _begin(function: Callable[[A], R], item: Item[A], label: str, busy: dict[Connection, _Worker]) -> None:
    """Start a process on its first item."""
    # A fork would copy the parent's threads' locks; a spawned process starts clean on every system.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there,), daemon=True, name=f"autoseg-{label or 'worker'}")
    process.start()
    there.close()
    worker = _Worker(process, here, item)
    busy[here] = worker
    _send(worker, function)


def _next(
    worker: _Worker, function: Callable[[A], R], waiting: deque[Item[A]], busy: dict[Connection, _Worker]
) -> None:
    """Give the worker its next item, or let it go."""
    if not waiting:
        _end(worker)
        return
    following = _Worker(worker.process, worker.connection, waiting.popleft())
    busy[worker.connection] = following
    _send(following, function)


def _send(worker: _Worker, function: Callable[[A], R]) -> None:
    try:
        worker.connection.send((function, worker.item[1]))
    except OSError:
        # The process has died; receiving says so, and knows of which signal.
        log.debug("%s: the process does not listen", worker.item[0])


def _receive(worker: _Worker) -> tuple[Any, str] | None:
    """Return what the worker sent, or None when it has died."""
    try:
        outcome: tuple[Any, str] = worker.connection.recv()
    except (EOFError, OSError):
        _end(worker)
        return None
    except Exception as error:  # what came cannot be put together here
        return _bug(error), traceback.format_exc()
    return outcome


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(10)


def _death(worker: _Worker, case: str) -> UserError:
    code = worker.process.exitcode
    if code is not None and code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended by itself with exit code {code}"
    fix = "Look for the cause in the log of the system."
    if code == -signal.SIGKILL:
        fix = (
            "Most often the system was out of memory: use fewer workers, close other programs, or use a larger machine."
        )
    return ResourceError(f"the process that worked on this case {how}", case=case, fix=fix, code="worker_died")


def _settle(case: str, result: Any, text: str) -> Any:
    """Name the case in an error, and keep the traceback of a bug for those who look for it."""
    if text:
        log.debug("%s: %s", case, text)
    return result.in_case(case) if isinstance(result, UserError) else result


def _attempt(function: Callable[[A], R], argument: A) -> tuple[R | UserError, str]:
    """Return the result or the error, and the traceback of an error that nobody foresaw."""
    try:
        return function(argument), ""
    except UserError as error:
        return error, ""
    except MemoryError:
        fix = "Use fewer workers, close other programs, or use a larger machine."
        return ResourceError("there is not enough memory for this case", fix=fix, code="no_memory"), ""
    except (Exception, SystemExit) as error:
        return _bug(error), traceback.format_exc()


def _bug(error: BaseException) -> UserError:
    return UserError(
        f"an error that autoseg did not foresee: {type(error).__name__}: {error}",
        fix="Run again with --debug and report it, or leave the case out.",
        code="bug",
    )


def _work(connection: Connection) -> None:
    """Run in the worker: one thread, and answers until nobody asks."""
    # Before the function brings in its libraries: N workers with N threads each would fight for N processors.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = "1"
    answer_calls(connection)


def answer_calls(connection: Connection) -> None:
    """Receive a function and its argument and send back (result or error, traceback of a bug), until nobody asks."""
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function, argument = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # the function is not to be found from a new process
            connection.send((_bug(error), traceback.format_exc()))
            continue
        outcome = _attempt(function, argument)
        try:
            connection.send(outcome)
        except OSError:
            return
        except Exception as error:  # the result cannot travel
            connection.send((_bug(error), traceback.format_exc()))
