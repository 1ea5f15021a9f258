"""Scores of parts of the cases: by site, scanner or disease, by how many lesions there are, and by where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from autoseg.records.dataset import Dataset
from autoseg.records.errors import UsageError
from autoseg.records.evaluation import CaseScore, Evaluation, StructureScore
from autoseg.records.record import Record
from autoseg.stages.evaluating.statistics import Interval, interval
from autoseg.stages.evaluating.summaries import SUCCESS_DICE, StructureSummary, success_of_cases, summarise

LESION_COUNT, LESION_PLACE = "lesion_count", "lesion_place"
LESIONWISE = frozenset({LESION_COUNT, LESION_PLACE})
NOT_STATED = "(not stated)"
# How many lesions a structure of a case has: none, one, few, several, many.
COUNT_BINS = ((0, 0, "0"), (1, 1, "1"), (2, 4, "2-4"), (5, 9, "5-9"), (10, None, "10 or more"))


class GroupSummary(Record):
    """The cases that share one value of an attribute.

    Attributes:
        attribute: `site`, ... or `lesion_count`.
        value: Theirs; `(not stated)` where a case has none.
        cases: How many.
        structures: As over all cases.
    """

    attribute: str
    value: str
    cases: int
    structures: tuple[StructureSummary, ...]


class PlaceSummary(Record):
    """The lesions of one structure on one side of the middle of their scans.

    Attributes:
        place: `left anterior superior` and the like.
        sensitivity: Found of these lesions; nan where there are only false positives.
    """

    structure: str
    place: str
    lesions: int
    found: int
    false_positives: int
    sensitivity: float


class Scores(Record):
    """All that an evaluation says.

    Attributes:
        evaluation: Every score.
        mean_dice: Over structures, of the mean over cases, with its interval over patients.
        structures: Over all cases.
        success_fraction: Share of the cases in which every structure reaches `success_dice`.
        parts: Over parts of the cases, as asked for.
        places: Lesions by where they lie, when asked for.
    """

    evaluation: Evaluation
    mean_dice: Interval
    structures: tuple[StructureSummary, ...]
    success_dice: float
    success_fraction: float
    parts: tuple[GroupSummary, ...] = ()
    places: tuple[PlaceSummary, ...] = ()


def scores_of(
    evaluation: Evaluation,
    parts: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, str],
    *,
    success_dice: float = SUCCESS_DICE,
) -> Scores:
    """Return an evaluation with its summaries.

    Args:
        evaluation: Scores of the cases.
        parts: What to divide the cases by: an attribute -> its values (`values_by`).
        groups: Case -> patient.
        success_dice: From which Dice on a case counts as a success.
    """
    found: list[GroupSummary] = []
    for name, values in parts.items():
        if name == LESION_COUNT:
            found += by_lesion_count(evaluation, groups, success_dice=success_dice)
        elif name != LESION_PLACE:
            found += by_attribute(evaluation, name, values, groups, success_dice=success_dice)
    return Scores(
        evaluation=evaluation,
        mean_dice=interval(evaluation, groups),
        structures=tuple(summarise(evaluation, groups, success_dice=success_dice)),
        success_dice=success_dice,
        success_fraction=success_of_cases(evaluation, success_dice),
        parts=tuple(found),
        places=by_lesion_place(evaluation) if LESION_PLACE in parts else (),
    )


def values_by(dataset: Dataset | None, name: str) -> dict[str, str]:
    """Return case -> value of what the cases are divided by; nothing for what lesions themselves decide.

    Raises:
        UsageError: There is no data set to ask, or none of its cases has this attribute.
    """
    if name in LESIONWISE:
        return {}
    if dataset is None:
        raise UsageError(
            f"--by {name} needs a data set that knows it",
            fix=f"Name one with -d; without it there are {LESION_COUNT} and {LESION_PLACE}.",
            code="no_dataset",
        )
    return attributes_of(dataset, name)


def attributes_of(dataset: Dataset, name: str) -> dict[str, str]:
    """Return case -> value of one attribute; cases without it are left out.

    Raises:
        UsageError: No case has it; the message lists what there is.
    """
    everyone = (*dataset.cases, *dataset.test_cases)
    found = {case.id: case.attributes[name] for case in everyone if name in case.attributes}
    if not found:
        there = sorted({key for case in everyone for key in case.attributes})
        raise UsageError(
            f"no case of data set {dataset.name} has the attribute {name!r}",
            fix=f"There are: {', '.join([*there, LESION_COUNT, LESION_PLACE])}.",
            code="no_attribute",
        )
    return found


def by_attribute(
    evaluation: Evaluation,
    attribute: str,
    values: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
    *,
    success_dice: float = SUCCESS_DICE,
) -> tuple[GroupSummary, ...]:
    """Return the summaries of the cases of each value, in the order of the values; those without one come last.

    Args:
        evaluation: Scores of the cases.
        attribute: Its name, for the record.
        values: Case -> value.
        groups: Case -> patient; a case that is not named is a patient of its own.
        success_dice: From which Dice on a case counts as a success.
    """

    def of(score: CaseScore, item: StructureScore) -> str:
        return values.get(score.case, NOT_STATED)

    there = {values.get(score.case, NOT_STATED) for score in evaluation.scores}
    order = sorted(there, key=lambda value: (value == NOT_STATED, value))
    return _split(evaluation, attribute, order, of, groups=groups, success_dice=success_dice)


def by_lesion_count(
    evaluation: Evaluation, groups: Mapping[str, str] | None = None, *, success_dice: float = SUCCESS_DICE
) -> tuple[GroupSummary, ...]:
    """Return the summaries of structures with 0, 1, 2-4, 5-9, and 10 or more lesions in the truth."""

    def of(score: CaseScore, item: StructureScore) -> str | None:
        if item.lesions is None:
            return None
        count = item.lesions.lesions
        return next(word for low, high, word in COUNT_BINS if low <= count and (high is None or count <= high))

    order = [word for _, _, word in COUNT_BINS]
    return _split(evaluation, LESION_COUNT, order, of, groups=groups, success_dice=success_dice)


def by_lesion_place(evaluation: Evaluation) -> tuple[PlaceSummary, ...]:
    """Return the lesions of all cases by the side of the scan's middle that they lie on, structure by structure."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for score in evaluation.scores:
        for item in score.structures:
            for lesion in item.lesions.details if item.lesions else ():
                counts[item.structure, lesion.place, lesion.kind] += 1
    rows = []
    for structure, place in sorted({key[:2] for key in counts}):
        found, missed, spurious = (counts[structure, place, kind] for kind in ("found", "missed", "false_positive"))
        rows.append(
            PlaceSummary(
                structure=structure,
                place=place,
                lesions=found + missed,
                found=found,
                false_positives=spurious,
                sensitivity=found / (found + missed) if found + missed else float("nan"),
            )
        )
    return tuple(rows)


def _split(
    evaluation: Evaluation,
    attribute: str,
    order: list[str],
    of: Callable[[CaseScore, StructureScore], str | None],
    *,
    groups: Mapping[str, str] | None,
    success_dice: float,
) -> tuple[GroupSummary, ...]:
    rows = []
    for value in order:
        scores = []
        for score in evaluation.scores:
            kept = tuple(item for item in score.structures if of(score, item) == value)
            if kept:
                scores.append(score.model_copy(update={"structures": kept}))
        if scores:
            part = evaluation.model_copy(update={"scores": tuple(scores)})
            summaries = tuple(summarise(part, groups, success_dice=success_dice))
            rows.append(GroupSummary(attribute=attribute, value=value, cases=len(scores), structures=summaries))
    return tuple(rows)
