"""Ctrl-C, SIGTERM and SIGUSR1 (Slurm's warning) end a run between two steps, never inside one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


@dataclass
class Watch:
    """Whether someone asked to stop.

    Attributes:
        asked: A signal came.
        deferred: While True a first signal only sets `asked`; a second one interrupts at once.
    """

    asked: bool = False
    deferred: bool = False


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Turn the signals into KeyboardInterrupt, or into `Watch.asked` while it is deferred; restored at the end.

    Outside of the main thread, where Python takes no signals, nothing changes.
    """
    watch = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return

    def note(number: int, frame: FrameType | None) -> None:
        again, watch.asked = watch.asked, True
        if again or not watch.deferred:
            raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield watch
    finally:
        for number, action in before.items():
            signal.signal(number, action if action is not None else signal.SIG_DFL)
