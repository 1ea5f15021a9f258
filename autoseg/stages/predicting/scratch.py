"""Arrays on disk for what is too large to hold: every probability of every voxel at the scan's own resolution."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from autoseg.images.slabs import Keep
from autoseg.images.ways import Part
from autoseg.records.errors import ResourceError


def array_on_disk(shape: Sequence[int], folder: Path) -> tuple[np.ndarray, Callable[[], None]]:
    """Return zeros, float16, in a file without a name, which is gone when nobody uses the array any more.

    Args:
        shape: Of the array.
        folder: On the disk to use; it exists.

    Returns:
        The array, and what to call now and then so that written pages leave the memory.

    Raises:
        ResourceError: The disk has no room.
    """
    size = 2 * math.prod(shape)
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            # Without this a full disk would show only when a page is written, and end the process.
            _reserve(stream.fileno(), size)
            mapped = mmap.mmap(stream.fileno(), size)
    except OSError as error:
        what = f"{size / 2**30:.1f} GB for probabilities cannot be reserved ({error.strerror})"
        raise ResourceError(what, file=folder, fix="Free the disk, or choose another output folder.") from None

    def release() -> None:
        if hasattr(mmap, "MADV_DONTNEED"):  # shared pages stay in the file
            mapped.madvise(mmap.MADV_DONTNEED)

    return np.frombuffer(mapped, np.float16).reshape(shape), release


def releasing(keep: Keep, release: Callable[[], None]) -> Keep:
    """Return `keep` that lets what it wrote leave the memory."""

    def kept(place: Part, mean: np.ndarray) -> None:
        keep(place, mean)
        release()

    return kept


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
