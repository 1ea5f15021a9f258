"""A second process that has torch in it: loading torch and dry runs take their time while cases are read here."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any, TypeVar

from autoseg.compute.workers import answer_calls
from autoseg.records.errors import ResourceError

R = TypeVar("R")


class Companion:
    """Where functions are called: in a process beside this one, or here where there is none."""

    def __init__(self, connection: Connection | None = None):
        self._connection = connection
        self._turn = Lock()

    def call(self, function: Callable[..., R], *arguments: Any, **named: Any) -> R:
        """Return `function(*arguments, **named)`; calls of several threads take turns, an error arrives as raised.

        Args:
            function: Defined at the top of a module, so that another process finds it.
            arguments: What can travel between processes.
            named: The same.

        Raises:
            ResourceError: The process has died.
        """
        if self._connection is None:
            return function(*arguments, **named)
        try:
            with self._turn:
                self._connection.send((_spread, (function, arguments, named)))
                result, _ = self._connection.recv()
        except (EOFError, OSError):
            raise ResourceError(
                "the process that measures networks has died, most often because the system was out of memory",
                fix="Close other programs, or use a larger machine; then run the same command again.",
                code="worker_died",
            ) from None
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]


NOBODY = Companion()


@contextlib.contextmanager
def companion(warm: Callable[[], object]) -> Iterator[Companion]:
    """Give a process that begins by calling `warm`, which loads what later calls need.

    Where torch is loaded in this process already, everything is called here: a second copy would cost more than it
    saves.
    """
    if "torch" in sys.modules:
        yield NOBODY
        return
    # Spawned, not forked: it starts clean on every system, whatever threads run here.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, warm), daemon=True, name="autoseg-companion")
    process.start()
    there.close()
    try:
        yield Companion(here)
    finally:
        process.kill()  # it holds nothing that anybody waits for, and takes a second to put torch away
        process.join()
        here.close()


def _serve(connection: Connection, warm: Callable[[], object]) -> None:
    # Whatever is wrong with it, the first call says so.
    with contextlib.suppress(Exception):
        warm()
    answer_calls(connection)


def _spread(call: tuple[Callable[..., R], tuple[Any, ...], dict[str, Any]]) -> R:
    function, arguments, named = call
    return function(*arguments, **named)
