"""Registrations that are searched for once and kept: they take minutes, and a case is read many times."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.records.errors import UserError
from autoseg.records.geometry import Grid
from autoseg.records.registration import Motion, Row
from autoseg.storage import read_record, write_record

log = logging.getLogger(__name__)

# Raised when the same images would give another motion.
METHOD_VERSION = 1


@dataclass(frozen=True)
class Pair:
    """Two channels of one case: `moving` goes onto `fixed`; arrays (Z, Y, X), finite."""

    moving: np.ndarray
    moving_grid: Grid
    fixed: np.ndarray
    fixed_grid: Grid
    fixed_kind: str


def motion_of(pair: Pair, *, case: str, channel: str, kept: Path | None) -> Motion:
    """Return the motion that registers a pair: what was found before for the same voxels, else a new search.

    Args:
        pair: What is registered.
        case: For the record.
        channel: Name of the moving one, for the record.
        kept: Folder in which motions are kept, or None to search every time.
    """
    digest = _digest(pair)
    file = kept / f"{digest}.json" if kept is not None else None
    if file is not None and file.exists():
        try:
            known = read_record(file, Motion)
        except UserError as error:
            log.warning("%s Registering again.", error)
        else:
            if known.inputs_digest == digest:
                return known.model_copy(update={"case": case, "channel": channel})
    found = _search(pair, digest, case=case, channel=channel)
    if file is not None:
        try:
            write_record(file, found)
        except UserError as error:  # a folder of models that cannot be written is enough for a prediction
            log.warning("The registration of %s is not kept: %s", case, error)
    return found


def in_words(motion: Motion) -> str:
    """Return what was done, for people."""
    if not motion.accepted:
        return "registration found nothing better than the headers' geometry, or something absurd: undone"
    return (
        f"registered onto the first channel (shifted by {motion.shift_mm:.1f} mm, turned by "
        f"{motion.turn_degrees:.1f} degrees, corners by up to {motion.corner_mm:.1f} mm)"
    )


def _search(pair: Pair, digest: str, *, case: str, channel: str) -> Motion:
    from autoseg.images import foreground, register

    mask = foreground.body_mask(pair.fixed, pair.fixed_grid, kind=pair.fixed_kind, dilate_mm=register.RIM_MM)
    found = register.register_rigid(pair.moving, pair.moving_grid, pair.fixed, pair.fixed_grid, mask=mask)
    rows: list[Row] = [(a, b, c, d) for a, b, c, d in found.matrix.tolist()]
    return Motion(
        case=case,
        channel=channel,
        inputs_digest=digest,
        matrix=(rows[0], rows[1], rows[2], rows[3]),
        metric_before=found.metric_before,
        metric_after=found.metric_after,
        accepted=found.accepted,
        shift_mm=register.shift_mm(found.matrix, pair.fixed_grid),
        turn_degrees=register.turn_degrees(found.matrix),
        corner_mm=register.corner_shift_mm(found.matrix, pair.fixed_grid),
    )


def _digest(pair: Pair) -> str:
    summary = hashlib.sha256(f"{METHOD_VERSION} {pair.fixed_kind}".encode())
    for array, grid in ((pair.moving, pair.moving_grid), (pair.fixed, pair.fixed_grid)):
        summary.update(grid.to_json().encode())
        summary.update(np.ascontiguousarray(array).data)
    return summary.hexdigest()[:32]
