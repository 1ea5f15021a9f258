"""How much memory this process may still fill."""

from __future__ import annotations

import contextlib
from pathlib import Path

UNKNOWN_BYTES = 4 * 2**30


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that are free: what the system has, or what a container leaves; 4 GB where neither says.

    Args:
        meminfo: Of Linux.
        control_group: Of version 2, where a container's limit stands.
    """
    free = UNKNOWN_BYTES
    with contextlib.suppress(OSError, ValueError, IndexError):
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(rows.get("MemAvailable", "").split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        limit = int((control_group / "memory.max").read_text())
        used = int((control_group / "memory.current").read_text())
        free = min(free, max(0, limit - used))
    return free
