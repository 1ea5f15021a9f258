"""What one run was asked for, and whether that is what a folder already holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.records.configuration import Configuration
from autoseg.records.errors import UserError
from autoseg.records.labels import Labels
from autoseg.records.model import Extension, ModelId, RunRecord
from autoseg.records.volumes import PreprocessedCase

if TYPE_CHECKING:
    from autoseg.stages.training.pretrained import Given


@dataclass(frozen=True)
class FoldFacts:
    """What is known of a fold's training cases beside their arrays.

    Attributes:
        groups: Case id -> patient; a case that is not named is a patient of its own.
        voxels: Of an average case, background first, then one a structure; empty where nobody counted.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    voxels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Request:
    """One call of `fit`, settings applied.

    Attributes:
        plan_digest: Of the whole plan; noted in the finished model.
        configuration: The plan's, with `settings`.
        cases: To train on, in the order of their ids, so that every run draws the same.
        device: As torch names it, `cpu` or `cuda:0`.
        began: `time.perf_counter()` when the call began; what is measured counts into the budget.
        extension: Of a run that has ended, to be noted and trained.
        given: Weights to start from; None draws them.
        optional: Image channels that a case may lack.
        monitored: Cases set apart to measure on; not among `cases`.
        class_weights: Of the loss; empty where all count the same.
        ranks: Processes that share each batch, on a card each or on one CPU.
        tensorboard: Whether each epoch is written for TensorBoard as well.
        stored: `cases` as they lie on the disk; what further ranks are given.
    """

    plan_digest: str
    model: ModelId
    labels: Labels
    configuration: Configuration
    settings: Mapping[str, str]
    cases: Sequence[PreprocessedCase]
    cases_digest: str
    budget_seconds: float | None
    device: str
    began: float
    class_weights: tuple[float, ...] = ()
    extension: Extension | None = None
    given: Given | None = None
    optional: tuple[int, ...] = ()
    monitored: Sequence[PreprocessedCase] = ()
    ranks: int = 1
    stored: Sequence[PreprocessedCase] = ()
    tensorboard: bool = False


def stable_seed(*parts: object) -> int:
    """Return a number from 0 to 2 ** 63 - 1 that depends on `parts` alone, the same on every machine."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_same(record: RunRecord, request: Request, folder: Path) -> None:
    """Refuse a folder whose run was started from something else than what is asked for now.

    Raises:
        UserError: The model, settings, configuration, labels or cases differ; the message says in what.
    """
    if record.model != request.model:
        raise _refusal(folder, f"of another model, {record.model.key()} with seed {record.model.seed}")
    if dict(record.settings) != dict(request.settings):
        raise _refusal(folder, f"with {_words(record.settings)}; now it is {_words(request.settings)}")
    if record.configuration_digest != request.configuration.digest():
        rows = differences(record.configuration.model_dump(), request.configuration.model_dump())
        raise _refusal(folder, f"under another plan: {'; '.join(rows) or 'its digest differs'}")
    if record.labels != request.labels:
        rows = differences(record.labels.model_dump(), request.labels.model_dump())
        raise _refusal(folder, f"with other labels: {'; '.join(rows)}")
    now = request.given
    if now is not None and (record.pretrained is None or record.pretrained.sha256 != now.sha256):
        raise _refusal(folder, f"from {record.pretrained.file if record.pretrained else 'new weights'}; now {now.file}")
    if record.cases_digest != request.cases_digest:
        raise _refusal(
            folder,
            "on other preprocessed cases: a case was added, removed or preprocessed again since "
            f"(digest {record.cases_digest or 'none'}, now {request.cases_digest or 'none'})",
        )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return where two plain values differ, as `path was A and is now B`, at most eight."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        rows = [row for key in keys for row in differences(old.get(key), new.get(key), f"{path}.{key}".strip("."))]
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new) and path:
        rows = [
            row
            for index, pair in enumerate(zip(old, new, strict=True))
            for row in differences(*pair, f"{path}.{index}")
        ]
    else:
        rows = [] if old == new else [f"{path} was {old} and is now {new}"]
    return rows[:8]


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"--set {key}={value}" for key, value in settings.items()) or "no --set"


def _refusal(folder: Path, how: str) -> UserError:
    return UserError(
        f"the run in this folder was started {how}",
        file=folder,
        fix="Give the new run a name of its own (--variant NAME), or remove the folder to start it anew.",
        code="run_mismatch",
    )
