"""A run that has ended goes on: `--set epochs=...` on a finished run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from autoseg.records.errors import UsageError
from autoseg.records.model import Extension, RunRecord, TrainedModel
from autoseg.stages.training import settings as recipe_settings
from autoseg.storage import read_record

KEY = "epochs"


def asked(folder: Path, settings: Mapping[str, str]) -> tuple[dict[str, str], Extension | None]:
    """Return the settings that the run was started with, and the extension that is asked for and not yet noted.

    The run in `folder` is extended when it has ended and `settings` are those it was started with but for `epochs`.
    The extension has the recipe's schedule from its warm-up to its end once more. Asking for the same again is no
    further extension.

    Raises:
        UsageError: The run has as many steps already, or an extension to another length has not ended yet.
    """
    if KEY not in settings or not (folder / "run.json").exists() or not (folder / "model.json").exists():
        return dict(settings), None
    record = read_record(folder / "run.json", RunRecord)
    started = dict(record.settings)
    if settings.get(KEY) == started.get(KEY) or _without(settings) != _without(started):
        return dict(settings), None
    wanted = recipe_settings.apply(record.configuration, {KEY: settings[KEY]}).recipe
    # Several ranks make a larger batch than the planned one, and an epoch of fewer steps.
    epoch = wanted.steps_per_epoch / max(1, record.batch_size // record.configuration.batch_size)
    steps = math.ceil(wanted.epochs * epoch)
    done = read_record(folder / "model.json", TrainedModel).steps
    if record.extensions and record.extensions[-1].to_step == steps:
        return started, None
    if pending(record, done):
        raise UsageError(
            f"the extension to {record.extensions[-1].to_step} steps has not ended yet",
            file=folder,
            fix=f"Run the command with --set epochs={record.extensions[-1].to_step / epoch:g} first.",
        )
    if steps <= done:
        raise UsageError(
            f"epochs={wanted.epochs} means {steps} steps, and the run has done {done}",
            file=folder,
            fix=f"Give more than {done / epoch:g} epochs.",
        )
    return started, Extension(from_step=done, to_step=steps)


def pending(record: RunRecord, done: int) -> bool:
    """Return whether the last extension of a run whose model has `done` steps is still to be trained."""
    return bool(record.extensions) and done <= record.extensions[-1].from_step


def _without(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key != KEY}
