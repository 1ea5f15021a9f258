"""Bias fields that are searched for once and kept: they take seconds, and a case is read at every stage."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autoseg.records.errors import UserError
from autoseg.records.geometry import Grid
from autoseg.storage import writing

log = logging.getLogger(__name__)

# Raised when the same image would give another field; what was preprocessed with the old one is made again.
METHOD_VERSION = 2
FOLDER = "bias_fields"


def field_of(
    array: np.ndarray, grid: Grid, *, kept: Path | None, shape: tuple[int, ...], find: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the logarithm of a channel's bias field on the shrunken grid: the one found before, else a new search.

    A field that was kept is used only for the very same voxels, geometry and method. One that cannot be read is found
    again; a folder that cannot be written is said and nothing else.

    Args:
        array: The channel before the correction, (Z, Y, X).
        grid: Where its voxels lie.
        kept: Folder in which fields are kept, or None.
        shape: Of the field.
        find: Searches; returns float32 of `shape`.
    """
    if kept is None:
        return find()
    digest = _digest(array, grid)
    file = kept / FOLDER / f"{digest}.npy"
    known = _read(file, shape) if file.exists() else None
    if known is not None:
        return known
    found = find()
    try:
        with writing(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, found, allow_pickle=False)
    except UserError as error:  # a folder of models that cannot be written is enough for a prediction
        log.warning("The bias field is not kept: %s", error)
    return found


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        with file.open("rb") as stream:
            field = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s cannot be read (%s). Searching for the bias field again.", file, error)
        return None
    sound = field.shape == shape and field.dtype == np.float32 and bool(np.isfinite(field).all())
    return field if sound else None


def _digest(array: np.ndarray, grid: Grid) -> str:
    summary = hashlib.sha256(f"{METHOD_VERSION} {grid.to_json()} {array.dtype}".encode())
    summary.update(np.ascontiguousarray(array).data)
    return summary.hexdigest()[:32]
