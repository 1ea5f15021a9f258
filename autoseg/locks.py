"""A folder's lock: two runs never write into one folder, and what a killed run left half written is removed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from autoseg.records.errors import ResourceError
from autoseg.storage import check_writable


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs, so that two runs never write into one folder.

    A lock whose process is gone from this host is taken over, and what such a run left half written in the folder is
    removed. Within a network file system the holder is named by host and process.

    Raises:
        ResourceError: Another run holds it, or the folder cannot be written.
    """
    check_writable(folder)
    path = folder / "lock"
    mine = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": time.time()})
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            _take_over_or_raise(path)
            continue
        with os.fdopen(handle, "w") as stream:
            stream.write(mine)
        break
    try:
        remove_left_overs(folder)
        yield
    finally:
        path.unlink(missing_ok=True)


def remove_left_overs(folder: Path) -> None:
    """Remove what a run that was killed left half written in a folder; only for who holds the folder's lock."""
    for left_over in folder.glob(".tmp-*"):
        left_over.unlink(missing_ok=True)


def _take_over_or_raise(path: Path) -> None:
    try:
        holder = json.loads(path.read_text())
        host, process, since = str(holder["host"]), int(holder["process"]), float(holder["since"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        # Written by a run that was killed between creating and filling it; give a live one a moment.
        if time.time() - path.stat().st_mtime > 5:
            path.unlink(missing_ok=True)
        time.sleep(0.1)
        return
    if host == socket.gethostname() and not _alive(process):
        path.unlink(missing_ok=True)
        return
    minutes = (time.time() - since) / 60
    raise ResourceError(
        f"another run has been working here for {minutes:.0f} minutes (host {host}, process {process})",
        file=path.parent,
        fix=f"Wait for it, or remove {path} if it is gone.",
        code="locked",
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
