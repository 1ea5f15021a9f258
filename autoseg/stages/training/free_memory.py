"""How much memory this process may still fill, and how much it has filled."""

from __future__ import annotations

import contextlib
import sys
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


def used_memory_gb(device: str) -> float:
    """Return the most that was used so far, in GB of 2^30 bytes: of a card by torch, else by this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**30
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return 0.0
