"""Where each value of a label map lies: a sample of its voxels, small enough to be kept in memory for every case."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from autoseg.storage import writing

PER_VALUE = 10_000


def draw_positions(labels: np.ndarray, *, case: str, ignore: int | None = None) -> dict[int, np.ndarray]:
    """Return inside value -> int32 (n, 3) voxel indices (z, y, x): all of them, or 10,000 drawn at random.

    The draw depends on the case's id and the value alone, so it is the same in every run and on every machine.

    Args:
        labels: (Z, Y, X), 0 background.
        case: Id.
        ignore: A value to leave out.
    """
    key = int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "big")
    positions = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or value == ignore:
            continue
        found = np.flatnonzero(labels[box] == value)
        if found.size > PER_VALUE:
            rng = np.random.default_rng([key, value])
            found = found[np.sort(rng.choice(found.size, PER_VALUE, replace=False, shuffle=False))]
        shape = tuple(part.stop - part.start for part in box)
        corner = [part.start for part in box]
        positions[value] = (np.stack(np.unravel_index(found, shape), axis=1) + corner).astype(np.int32)
    return positions


def write_positions(path: Path, positions: Mapping[int, np.ndarray], *, durable: bool = True) -> None:
    """Write positions as `.npz`: equal positions give equal bytes; see `storage.writing` for `durable`.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    arrays: dict[str, Any] = {str(value): where for value, where in sorted(positions.items())}
    with writing(path, durable=durable) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def read_positions(path: Path) -> dict[int, np.ndarray]:
    """Return positions written by `write_positions`; a damaged file is the caller's to notice by its digest."""
    with np.load(path, allow_pickle=False) as stored:
        return {int(name): stored[name] for name in stored.files}
