"""Going on without the cases that cannot be used."""

from __future__ import annotations

from autoseg.records.check import CheckReport
from autoseg.records.dataset import Dataset, Fold
from autoseg.stages.importing.listing import enumerate_cases

MOST_REASONS = 5


def without_bad(dataset: Dataset, found: CheckReport) -> tuple[Dataset, CheckReport]:
    """Return a data set without its cases that have errors, and what was found on the others.

    Folds keep their names and lose those cases; a fold that loses all it held out, or all it trained on, is gone.
    Errors of the data set as a whole, and those of a data set with no case left, stay errors.

    Args:
        dataset: What was checked.
        found: What the check found.
    """
    reasons = {item.case: item.what for item in reversed(found.errors()) if item.case is not None}
    cases = tuple(case for case in dataset.cases if case.id not in reasons)
    if not reasons or not cases:
        return dataset, found
    listed = [f"{id} ({reasons[id]})" for id in sorted(reasons)]
    note = f"Warning: --skip-bad left out {len(listed)} cases: {enumerate_cases(listed, most=MOST_REASONS)}."
    kept = dataset.model_copy(
        update={
            "cases": cases,
            "test_cases": tuple(case for case in dataset.test_cases if case.id not in reasons),
            "folds": _folds(dataset, set(reasons)),
            "notes": (*dataset.notes, note),
        }
    )
    problems = tuple(item for item in found.problems if item.case not in reasons)
    return kept, found.model_copy(
        update={"dataset_digest": kept.digest(), "cases": found.cases - len(reasons), "problems": problems}
    )


def _folds(dataset: Dataset, gone: set[str | None]) -> tuple[Fold, ...]:
    folds = []
    for fold in dataset.folds:
        training = tuple(id for id in fold.training if id not in gone)
        held_out = tuple(id for id in fold.held_out if id not in gone)
        if training and (held_out or not fold.held_out):
            folds.append(Fold(name=fold.name, training=training, held_out=held_out))
    return tuple(folds)
