"""Dry runs kept on disk, so that a second planning takes seconds: one line each, appended as a whole.

A line is found by the digests of network and recipe, the shape, precision and kind of device, and lies in a file for
each version of torch and of the code that was counted. Lines that are damaged are as if they were not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autoseg.records.calibration import StepWork
from autoseg.records.configuration import Architecture
from autoseg.records.errors import DataError
from autoseg.records.geometry import Shape
from autoseg.records.preset import Recipe
from autoseg.stages.planning import stored
from autoseg.stages.planning.costs import Cost, StepCost
from autoseg.stages.planning.stored import StoredCost

log = logging.getLogger(__name__)

MeasureWork = Callable[..., StepWork]
"""`(architecture, recipe, patch_shape, batch_size, *, precision, device_kind) -> StepWork`"""


def remembering(cost: Cost, folder: Path, *, write: bool = True) -> Cost:
    """Return `cost`, looking first among the dry runs kept in `folder` and adding what it had to measure.

    Args:
        cost: Measures a step.
        folder: Of the workspace's root; made where there is none.
        write: Whether to add.
    """
    file = folder / f"steps_{_code()}.jsonl"
    known = _read(file)

    def measured(
        architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int, **how: str
    ) -> StepCost:
        key = _key(architecture, recipe, patch_shape, batch_size, how)
        found = known.get(key)
        if isinstance(found, list) and _is_step(found):
            return StoredCost(int(found[0]), int(found[1]), float(found[2]))
        step = cost(architecture, recipe, patch_shape, batch_size, **how)
        known[key] = [step.peak_bytes, step.parameters, step.flops]
        if write:
            _append(file, key, known[key])
        return step

    return measured


def remembering_work(measure: MeasureWork, folder: Path, *, write: bool = True) -> MeasureWork:
    """Return `measure` as `remembering` does a cost."""
    file = folder / f"work_{_code()}.jsonl"
    known = _read(file)

    def measured(
        architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int, **how: str
    ) -> StepWork:
        key = _key(architecture, recipe, patch_shape, batch_size, how)
        if key in known:
            try:
                return StepWork.parse(json.dumps(known[key]), file=str(file))
            except DataError as error:
                log.debug("%s", error)
        work = measure(architecture, recipe, patch_shape, batch_size, **how)
        known[key] = work.model_dump(mode="json")
        if write:
            _append(file, key, known[key])
        return work

    return measured


def _key(architecture: Architecture, recipe: Recipe, patch_shape: Shape, batch_size: int, how: dict[str, str]) -> str:
    return f"{stored.key(architecture, recipe, patch_shape, batch_size)} {how['precision']} {how['device_kind']}"


def _is_step(found: list[Any]) -> bool:
    return len(found) == 3 and all(isinstance(item, int | float) for item in found)


@cache
def _code() -> str:
    """Return what tells whether a dry run would count the same: torch's version and a digest of the networks' code."""
    digest = hashlib.sha256(version("torch").encode())
    for path in sorted((Path(__file__).resolve().parents[2] / "networks").glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    known = {}
    for line in lines:
        try:
            key, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(key, str):
            known[key] = value
    return known


def _append(file: Path, key: str, value: Any) -> None:
    """Add a line in one write at the end of the file: whoever else writes does not come in between."""
    line = "\n" + json.dumps([key, value], separators=(",", ":")) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        log.debug("dry run not kept: %s", error)  # planning goes on without
