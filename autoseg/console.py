"""What a person sees: tables, a progress line, JSON for scripts, and errors in one line."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from autoseg.records.errors import CasesFailed, UserError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MOST_ROWS = 60  # of a table that is not what was asked for first


def plain(text: object) -> str:
    """Return text without control characters: names from files never steer the terminal."""
    return CONTROL.sub("?", str(text))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; on a terminal as wide as it is, elsewhere as wide as the text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    sheet = Table(title=escape(plain(title)), title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        sheet.add_column(escape(column), overflow="fold")
    for row in rows:
        sheet.add_row(*(escape(plain(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(sheet)


def line(text: str) -> None:
    """Print one line."""
    sys.stdout.write(plain(text) + "\n")


def as_json(content: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(content, indent=1, allow_nan=True) + "\n")


def failure(error: UserError, *, json_output: bool) -> None:
    """Say what went wrong, and list the cases when several did."""
    if json_output:
        content: dict[str, Any] = {"error": error.as_json()}
        if isinstance(error, CasesFailed):
            content["failures"] = [item.as_json() for item in error.failures.values()]
        as_json(content)
        return
    sys.stderr.write(f"autoseg: {plain(error)}\n")
    if isinstance(error, CasesFailed):
        for item in error.failures.values():
            sys.stderr.write(f"  {plain(item)}\n")


def stopped() -> None:
    """Say that a command was interrupted, beside what it prints for scripts."""
    sys.stderr.write("stopped; the same command goes on from here\n")


@contextlib.contextmanager
def progress(*, silent: bool) -> Iterator[Callable[[str, float, float | None], None]]:
    """Give a function that tells a person how far the work is: a live line on a terminal, a line a minute elsewhere."""
    if silent:
        yield lambda what, done, left: None
    elif sys.stderr.isatty():
        with _live() as tell:
            yield tell
    else:
        yield _minutely()


@contextlib.contextmanager
def _live() -> Iterator[Callable[[str, float, float | None], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def tell(what: str, done: float, left: float | None) -> None:
            words = "" if left is None else f"{_duration(left)} left"
            bar.update(task, description=escape(plain(what)), completed=done, left=words)

        yield tell


def _minutely() -> Callable[[str, float, float | None], None]:
    last = {"time": 0.0, "topic": ""}

    def tell(what: str, done: float, left: float | None) -> None:
        topic = what.split(" step ")[0].split(" held-out ")[0]
        now = time.monotonic()
        if now - last["time"] < 60 and topic == last["topic"]:  # type: ignore[operator]
            return
        last.update(time=now, topic=topic)
        words = "" if left is None else f", {_duration(left)} left"
        sys.stderr.write(f"{plain(what)} ({100 * done:.0f} %{words})\n")
        sys.stderr.flush()

    return tell


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _without_control(record: logging.LogRecord) -> bool:
    """Make a message plain before it is written: it may hold names from files."""
    record.msg, record.args = plain(record.getMessage()), None
    return True


def start_logging(*, debug: bool) -> None:
    """Send autoseg's own messages to standard error, one line each."""
    logger = logging.getLogger("autoseg")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(_without_control)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
