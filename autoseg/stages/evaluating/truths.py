"""Reading what a person drew, to judge what a model drew."""

from __future__ import annotations

from autoseg.images import cases
from autoseg.records.dataset import Case, Dataset
from autoseg.records.errors import DataError
from autoseg.records.evaluation import CaseScore
from autoseg.records.metrics import DEFAULT_FAMILIES, Family, Scoring, usual_tolerance_mm
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.scoring import score


def truth(dataset: Dataset, case: Case, *, like: LabelMap | None = None) -> LabelMap:
    """Return a case's labels in the geometry of its first channel (or of `like`, which has it).

    Raises:
        DataError: The case has no labels, or they do not fit the image.
    """
    if case.labels is None:
        raise DataError("has no labels to score against", case=case.id, fix="Leave it out.", code="no_labels")
    grid = like.grid if like else cases.read_grid(case.images, dataset.channels)
    return cases.read_labels(case.labels, dataset.labels, grid, case=case.id, corrections=dataset.corrections)


def score_case(dataset: Dataset, case: Case, prediction: LabelMap, *, lesions: bool = False) -> CaseScore:
    """Return the scores of one prediction against the case's own labels, with the data set's usual tolerances.

    `lesions` counts their connected pieces as well.
    """
    drawn = truth(dataset, case, like=prediction)
    wanted: frozenset[Family] = frozenset({"lesions"} if lesions else ())
    scoring = Scoring(families=DEFAULT_FAMILIES | wanted, tolerances_mm=usual_tolerances(dataset))
    return score(case.id, dataset.labels, drawn, prediction, annotated=case.annotated, scoring=scoring)


def usual_tolerances(dataset: Dataset) -> dict[str, float]:
    """Return structure (or region) -> the tolerance of its surface Dice in mm; see `usual_tolerance_mm`."""
    return {
        name: usual_tolerance_mm(name, dataset=dataset.name, layout=dataset.layout)
        for name, _ in dataset.labels.targets
    }
