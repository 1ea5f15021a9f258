"""All trained candidates side by side: how well, at what cost, and which differences are more than chance.

Scores are compared patient by patient: a case's figure is the mean over its structures, a patient's the mean over its
cases, nan left out. So two scans of one patient are one witness, in the means and in the tests alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from autoseg.records.dataset import Dataset
from autoseg.records.evaluation import CaseScore
from autoseg.records.record import Record
from autoseg.stages.evaluating.candidates import TrainedCandidate, check_two, notes_on, sharing
from autoseg.stages.evaluating.paired_tests import by_patient, holm, signed_rank_p, smallest_difference
from autoseg.stages.evaluating.ranking import SCHEMES, Ranking, rank
from autoseg.stages.evaluating.statistics import bootstrap_interval

# One for all figures: they are read side by side, so they share their resamples.
KEY = "candidates compared"


class CandidateRow(Record):
    """One candidate in the table, over the cases that all of them were judged on.

    Attributes:
        preset: That it was planned from.
        dice, surface_dice, precision, recall: Mean over patients, 0 to 1.
        hd95_mm: Median over cases and structures, in mm; infinite distances take part.
        memory_gb: Peak of a training step, as the plan estimates it, in GiB.
        training_hours: Wall time of all shared folds together.
        gain: Mean over patients of this candidate's Dice minus the best's; 0 for the best.
        smallest_difference: The smallest true difference to the best that so many patients would show four times in
            five (paired, two-sided, 5 %; `paired_tests.smallest_difference`); nan for the best, and with fewer than
            five patients.
        p_value: Wilcoxon's signed-rank test over patients against the best, two-sided, Holm's correction; 1 when no
            patient differs, nan for the best.
        intervals: Name of a figure above -> its 95 % bootstrap interval over patients; none with fewer than five.
    """

    name: str
    dice: float
    hd95_mm: float
    surface_dice: float
    precision: float
    recall: float
    parameters: int
    memory_gb: float
    training_hours: float
    gain: float
    smallest_difference: float
    p_value: float
    preset: str = ""
    intervals: dict[str, tuple[float, float]] = {}


class CandidateStructure(Record):
    """One structure of one candidate; the figures mean what they mean in `CandidateRow`, for this structure alone.

    Attributes:
        p_value: Holm's correction is for the candidates that are compared on this structure.
    """

    name: str
    structure: str
    dice: float
    hd95_mm: float
    surface_dice: float
    gain: float
    smallest_difference: float
    p_value: float
    intervals: dict[str, tuple[float, float]] = {}


class CandidateTable(Record):
    """Candidates from the best mean Dice to the worst.

    Attributes:
        folds: That all of them were trained on; everything in `rows` is of these.
        cases, patients: Held out by them.
        notes: Who or what was left out, for people.
        structures: The same structure by structure, each from the best candidate of the table to the worst.
        rankings: By Dice and by surface Dice, mean then rank and rank then mean, with their stability.
    """

    folds: tuple[str, ...]
    cases: int
    patients: int
    rows: tuple[CandidateRow, ...]
    notes: tuple[str, ...] = ()
    structures: tuple[CandidateStructure, ...] = ()
    rankings: tuple[Ranking, ...] = ()


def patients_of(dataset: Dataset) -> dict[str, str]:
    """Return case -> patient."""
    return {case.id: case.group for case in dataset.cases}


def compare_candidates(candidates: Sequence[TrainedCandidate], groups: Mapping[str, str]) -> CandidateTable:
    """Return the candidates side by side, on the folds that they share.

    Where no fold is shared by all, those that share one with the most widely trained are compared and the others are
    named in the notes.

    Args:
        candidates: Two or more.
        groups: Case -> patient; a case that is not named is a patient of its own.

    Raises:
        UsageError: There are fewer than two candidates, or no two of them share a fold.

    Source:
        Wilcoxon 1945 (scipy.stats.wilcoxon); Holm 1979, the step-down correction for several tests.
    """
    check_two(candidates)
    shared, folds = sharing(candidates)
    scores = {item.name: _scores(item, folds) for item in shared}
    cases = sorted(set.intersection(*(set(by_case) for by_case in scores.values())))
    patients = [groups.get(case, case) for case in cases]
    tables = {name: [by_case[case] for case in cases] for name, by_case in scores.items()}
    dice = {name: _case_means(table, "dice") for name, table in tables.items()}
    order = sorted(shared, key=lambda item: -np.nan_to_num(_mean(by_patient(dice[item.name], patients)), nan=-1.0))
    against = _against_best({item.name: dice[item.name] for item in order}, patients)
    rows = [_row(item, tables[item.name], patients, folds=folds, against=against[item.name]) for item in order]
    ordered = {item.name: tables[item.name] for item in order}
    return CandidateTable(
        folds=folds,
        cases=len(cases),
        patients=len(set(patients)),
        rows=tuple(rows),
        notes=tuple(notes_on(candidates, shared, folds)),
        structures=_structures(ordered, patients),
        rankings=_rankings(ordered, patients),
    )


class _Against(NamedTuple):
    """One candidate against the best: see `CandidateRow`."""

    gain: float
    smallest_difference: float
    p_value: float
    interval: tuple[float, float] | None


def _against_best(dice: Mapping[str, np.ndarray], patients: Sequence[str]) -> dict[str, _Against]:
    # `dice`: candidate -> one figure a case, the best candidate first
    best = next(iter(dice))
    gains = {name: by_patient(values - dice[best], patients) for name, values in dice.items() if name != best}
    p_values = holm([signed_rank_p(gain) for gain in gains.values()])
    found = {best: _Against(0.0, math.nan, math.nan, None)}
    for (name, gain), p_value in zip(gains.items(), p_values, strict=True):
        everyone = [str(i) for i in range(gain.size)]
        bounds = bootstrap_interval(gain, everyone, key=KEY)
        found[name] = _Against(_mean(gain), smallest_difference(gain), p_value, bounds)
    return found


def _structures(tables: Mapping[str, Sequence[CaseScore]], patients: Sequence[str]) -> tuple[CandidateStructure, ...]:
    names = dict.fromkeys(item.structure for table in tables.values() for score in table for item in score.structures)
    split = {name: _split(table, tuple(names)) for name, table in tables.items()}
    rows = []
    for structure in names:
        parts = {name: by_structure[structure] for name, by_structure in split.items()}
        against = _against_best({name: _case_means(part, "dice") for name, part in parts.items()}, patients)
        for name, part in parts.items():
            figures, intervals = _figures(part, patients, ("dice", "surface_dice"), against[name])
            rows.append(
                CandidateStructure(
                    name=name,
                    structure=structure,
                    gain=against[name].gain,
                    smallest_difference=against[name].smallest_difference,
                    p_value=against[name].p_value,
                    intervals=intervals,
                    **figures,
                )
            )
    return tuple(rows)


def _rankings(tables: Mapping[str, Sequence[CaseScore]], patients: Sequence[str]) -> tuple[Ranking, ...]:
    everyone = list(tables.values())
    names = list(dict.fromkeys(item.structure for table in everyone for score in table for item in score.structures))
    found = []
    for metric in ("dice", "surface_dice"):
        figures = np.stack([_figure_table(table, names, metric) for table in everyone])
        for scheme in SCHEMES:
            found.append(rank(figures, list(tables), patients, metric=metric, scheme=scheme))
    return tuple(found)


def _figure_table(scores: Sequence[CaseScore], names: Sequence[str], figure: str) -> np.ndarray:
    # -> float64, (cases, structures), nan where there is none
    rows = [{item.structure: getattr(item, figure) for item in score.structures} for score in scores]
    return np.array([[row.get(name, math.nan) for name in names] for row in rows])


def _split(scores: Sequence[CaseScore], names: Sequence[str]) -> dict[str, list[CaseScore]]:
    # -> structure -> the scores with that structure alone, case by case
    own = [{item.structure: item for item in score.structures} for score in scores]
    return {
        name: [
            score.model_copy(update={"structures": (items[name],) if name in items else ()})
            for score, items in zip(scores, own, strict=True)
        ]
        for name in names
    }


def _scores(candidate: TrainedCandidate, folds: Sequence[str]) -> dict[str, CaseScore]:
    return {score.case: score for fold in folds for score in candidate.evaluations[fold].scores}


def _row(
    candidate: TrainedCandidate,
    scores: Sequence[CaseScore],
    patients: Sequence[str],
    *,
    folds: Sequence[str],
    against: _Against,
) -> CandidateRow:
    figures, intervals = _figures(scores, patients, ("dice", "surface_dice", "precision", "recall"), against)
    return CandidateRow(
        name=candidate.name,
        preset=candidate.preset,
        parameters=candidate.parameters,
        memory_gb=candidate.memory_bytes / 2**30,
        training_hours=sum(candidate.seconds[fold] for fold in folds) / 3600,
        gain=against.gain,
        smallest_difference=against.smallest_difference,
        p_value=against.p_value,
        intervals=intervals,
        **figures,
    )


def _figures(
    scores: Sequence[CaseScore], patients: Sequence[str], means: Sequence[str], against: _Against
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    # -> means over patients and the median distance, and the interval of each
    figures, bounds = {}, {"gain": against.interval}
    for name in means:
        of_patients = by_patient(_case_means(scores, name), patients)
        figures[name] = _mean(of_patients)
        bounds[name] = bootstrap_interval(of_patients, [str(i) for i in range(of_patients.size)], key=KEY)
    pairs = [
        (item.hd95_mm, patient)
        for score, patient in zip(scores, patients, strict=True)
        for item in score.structures
        if item.hd95_mm == item.hd95_mm
    ]
    distances = np.array([distance for distance, _ in pairs])
    figures["hd95_mm"] = float(np.median(distances)) if pairs else math.nan
    bounds["hd95_mm"] = bootstrap_interval(distances, [who for _, who in pairs], key=KEY, statistic="median")
    return figures, {name: interval for name, interval in bounds.items() if interval is not None}


def _case_means(scores: Sequence[CaseScore], figure: str) -> np.ndarray:
    # -> float64, (cases,): mean over structures, nan where nothing is scored
    return np.array([_mean([getattr(item, figure) for item in score.structures]) for score in scores])


def _mean(values: Iterable[float]) -> float:
    there = [float(value) for value in values if value == value]
    return math.fsum(there) / len(there) if there else math.nan
