"""What was trained, candidate by candidate, and which of them can be put side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autoseg.records.errors import UsageError
from autoseg.records.evaluation import Evaluation
from autoseg.records.model import ModelId, TrainedModel
from autoseg.records.record import Record
from autoseg.storage import read_record
from autoseg.workspace import Workspace


class TrainedCandidate(Record):
    """What is known of one candidate, fold by fold.

    Attributes:
        name: `ModelId.candidate()`.
        evaluations: Fold -> scores of the cases that it holds out; never "all", which holds nothing out.
        seconds: Fold -> wall time of training.
        parameters: Trainable numbers.
        memory_bytes: Peak of a training step, as the plan estimates it.
        preset: That it was planned from.
    """

    name: str
    evaluations: dict[str, Evaluation]
    seconds: dict[str, float]
    parameters: int
    memory_bytes: int
    preset: str = ""


def read_candidates(work: Workspace, plan: str | None = None) -> tuple[TrainedCandidate, ...]:
    """Return every candidate with a scored fold, of one plan or of all, in the order of their names."""
    found: dict[str, list[ModelId]] = {}
    for model in work.trained(plan):
        if model.fold != "all" and (work.model(model) / "evaluation.json").exists():
            found.setdefault(model.candidate(), []).append(model)
    return tuple(_candidate(work, models) for models in found.values())


def _candidate(work: Workspace, models: Sequence[ModelId]) -> TrainedCandidate:
    records = {model.fold: read_record(work.model(model) / "model.json", TrainedModel) for model in models}
    memory = records[models[0].fold].configuration.memory
    return TrainedCandidate(
        name=models[0].candidate(),
        evaluations={model.fold: work.evaluation(model) for model in models},
        seconds={fold: record.seconds for fold, record in records.items()},
        parameters=memory.parameters,
        memory_bytes=memory.peak_bytes,
        preset=records[models[0].fold].configuration.preset,
    )


def check_two(candidates: Sequence[TrainedCandidate]) -> None:
    """Refuse a comparison of fewer than two candidates.

    Raises:
        UsageError: There are fewer.
    """
    if len(candidates) >= 2:
        return
    there = f"only {candidates[0].name} was" if candidates else "no candidate was"
    raise UsageError(
        f"{there} trained on a fold with held-out cases, and a comparison needs two candidates",
        fix="Train another preset under a plan of its own (`--plan`), or a `--variant` or a `--seed` of this one.",
        code="nothing_to_compare",
    )


def sharing(candidates: Sequence[TrainedCandidate]) -> tuple[list[TrainedCandidate], tuple[str, ...]]:
    """Return the candidates that share folds with the most widely trained one, in their order, and these folds.

    Raises:
        UsageError: No two of them share a fold.
    """
    kept: list[str] = []
    common: list[str] = []
    for item in sorted(candidates, key=lambda item: -len(item.evaluations)):
        both = [fold for fold in common if fold in item.evaluations] if kept else list(item.evaluations)
        if both:
            kept, common = [*kept, item.name], both
    if len(kept) < 2:
        trained = "; ".join(f"{item.name}: {_words(item.evaluations)}" for item in candidates)
        raise UsageError(
            f"no two candidates were trained on the same fold ({trained})",
            fix="Train them on one fold at least, such as `-f 0`.",
            code="no_shared_fold",
        )
    return [item for item in candidates if item.name in kept], tuple(sorted(common))


def notes_on(
    candidates: Sequence[TrainedCandidate], shared: Sequence[TrainedCandidate], folds: Sequence[str]
) -> list[str]:
    """Return who or what was left out, a sentence each."""
    names = {item.name for item in shared}
    notes = [
        f"{item.name} was left out: it was trained on {_words(item.evaluations)} only."
        for item in candidates
        if item.name not in names
    ]
    more = [f"{item.name} has {_words(item.evaluations)}" for item in shared if len(item.evaluations) > len(folds)]
    if more:
        notes.append(f"Compared on {_words(folds)}, which all were trained on; {', '.join(more)}.")
    return notes


def _words(folds: Iterable[str]) -> str:
    names = sorted(folds)
    return f"fold{'' if len(names) == 1 else 's'} {', '.join(names)}"
