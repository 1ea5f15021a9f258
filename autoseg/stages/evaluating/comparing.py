"""All trained candidates side by side: how well, at what cost, and which differences are more than chance.

Scores are compared patient by patient: a case's figure is the mean over its structures, a patient's the mean over its
cases, nan left out. So two scans of one patient are one witness, in the means and in the tests alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import wilcoxon

from autoseg.records.dataset import Dataset
from autoseg.records.errors import UsageError
from autoseg.records.record import Record
from autoseg.records.results import CaseScore, Evaluation, ModelId, TrainedModel
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, resample_groups
from autoseg.workspace import Workspace, read_record


class TrainedCandidate(Record):
    """What is known of one candidate, fold by fold.

    Attributes:
        name: `ModelId.candidate()`.
        evaluations: Fold -> scores of the cases that it holds out; never "all", which holds nothing out.
        seconds: Fold -> wall time of training.
        parameters: Trainable numbers.
        memory_bytes: Peak of a training step, as the plan estimates it.
    """

    name: str
    evaluations: dict[str, Evaluation]
    seconds: dict[str, float]
    parameters: int
    memory_bytes: int


class CandidateRow(Record):
    """One candidate in the table, over the cases that all of them were judged on.

    Attributes:
        dice, surface_dice, precision, recall: Mean over patients, 0 to 1.
        hd95_mm: Median over cases and structures, in mm; infinite distances take part.
        memory_gb: Peak of a training step, as the plan estimates it, in GiB.
        training_hours: Wall time of all shared folds together.
        gain: Mean over patients of this candidate's Dice minus the best's; 0 for the best.
        smallest_difference: Half the width of the 95 % bootstrap interval of `gain`: so many patients cannot show a
            smaller difference; nan for the best, and with fewer than five patients.
        p_value: Wilcoxon's signed-rank test over patients against the best, two-sided, Holm's correction; 1 when no
            patient differs, nan for the best.
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


class CandidateTable(Record):
    """Candidates from the best mean Dice to the worst.

    Attributes:
        folds: That all of them were trained on; everything in `rows` is of these.
        cases, patients: Held out by them.
        notes: Who or what was left out, for people.
    """

    folds: tuple[str, ...]
    cases: int
    patients: int
    rows: tuple[CandidateRow, ...]
    notes: tuple[str, ...] = ()


def read_candidates(work: Workspace, plan: str | None = None) -> tuple[TrainedCandidate, ...]:
    """Return every candidate with a scored fold, of one plan or of all, in the order of their names."""
    found: dict[str, list[ModelId]] = {}
    for model in work.trained(plan):
        if model.fold != "all" and (work.model(model) / "evaluation.json").exists():
            found.setdefault(model.candidate(), []).append(model)
    return tuple(_candidate(work, models) for models in found.values())


def patients_of(dataset: Dataset) -> dict[str, str]:
    """Return case -> patient."""
    return {case.id: case.group for case in dataset.cases}


def compare_candidates(
    candidates: Sequence[TrainedCandidate], groups: Mapping[str, str], *, seed: int = 0
) -> CandidateTable:
    """Return the candidates side by side, on the folds that they share.

    Where no fold is shared by all, those that share one with the most widely trained are compared and the others are
    named in the notes.

    Args:
        candidates: Two or more.
        groups: Case -> patient; a case that is not named is a patient of its own.
        seed: Of the resampling.

    Raises:
        UsageError: There are fewer than two candidates, or no two of them share a fold.

    Source:
        Wilcoxon 1945 (scipy.stats.wilcoxon); Holm 1979, the step-down correction for several tests.
    """
    _check_two(candidates)
    shared, folds = _sharing(candidates)
    scores = {item.name: _scores(item, folds) for item in shared}
    cases = sorted(set.intersection(*(set(by_case) for by_case in scores.values())))
    patients = [groups.get(case, case) for case in cases]
    tables = {name: [by_case[case] for case in cases] for name, by_case in scores.items()}
    dice = {name: _case_means(table, "dice") for name, table in tables.items()}
    order = sorted(shared, key=lambda item: -np.nan_to_num(_over_patients(dice[item.name], patients), nan=-1.0))
    gains = {item.name: _by_patient(dice[item.name] - dice[order[0].name], patients) for item in order[1:]}
    p_values = dict(zip(gains, holm([_p_value(gain) for gain in gains.values()]), strict=True))
    rows = [
        _row(
            item,
            tables[item.name],
            patients,
            folds=folds,
            gain=_mean(gains[item.name]) if item.name in gains else 0.0,
            smallest_difference=_half_width(gains[item.name], seed) if item.name in gains else math.nan,
            p_value=p_values.get(item.name, math.nan),
        )
        for item in order
    ]
    notes = _notes(candidates, shared, folds)
    return CandidateTable(
        folds=folds, cases=len(cases), patients=len(set(patients)), rows=tuple(rows), notes=tuple(notes)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for so many tests by Holm's step-down method, in their order; nan is no test."""
    order = sorted((i for i, p in enumerate(p_values) if p == p), key=lambda i: p_values[i])
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _candidate(work: Workspace, models: Sequence[ModelId]) -> TrainedCandidate:
    records = {model.fold: read_record(work.model(model) / "model.json", TrainedModel) for model in models}
    memory = records[models[0].fold].configuration.memory
    return TrainedCandidate(
        name=models[0].candidate(),
        evaluations={model.fold: work.evaluation(model) for model in models},
        seconds={fold: record.seconds for fold, record in records.items()},
        parameters=memory.parameters,
        memory_bytes=memory.peak_bytes,
    )


def _check_two(candidates: Sequence[TrainedCandidate]) -> None:
    if len(candidates) >= 2:
        return
    there = f"only {candidates[0].name} was" if candidates else "no candidate was"
    raise UsageError(
        f"{there} trained on a fold with held-out cases, and a comparison needs two candidates",
        fix="Train another preset under a plan of its own (`--plan`), or a `--variant` or a `--seed` of this one.",
        code="nothing_to_compare",
    )


def _sharing(candidates: Sequence[TrainedCandidate]) -> tuple[list[TrainedCandidate], tuple[str, ...]]:
    # -> the candidates that share folds with the most widely trained one, in their order, and these folds
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


def _notes(
    candidates: Sequence[TrainedCandidate], shared: Sequence[TrainedCandidate], folds: Sequence[str]
) -> list[str]:
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


def _scores(candidate: TrainedCandidate, folds: Sequence[str]) -> dict[str, CaseScore]:
    return {score.case: score for fold in folds for score in candidate.evaluations[fold].scores}


def _row(
    candidate: TrainedCandidate,
    scores: Sequence[CaseScore],
    patients: Sequence[str],
    *,
    folds: Sequence[str],
    **against_best: float,
) -> CandidateRow:
    means = {
        figure: _over_patients(_case_means(scores, figure), patients)
        for figure in ("dice", "surface_dice", "precision", "recall")
    }
    distances = [item.hd95_mm for score in scores for item in score.structures if item.hd95_mm == item.hd95_mm]
    return CandidateRow(
        name=candidate.name,
        hd95_mm=float(np.median(distances)) if distances else math.nan,
        parameters=candidate.parameters,
        memory_gb=candidate.memory_bytes / 2**30,
        training_hours=sum(candidate.seconds[fold] for fold in folds) / 3600,
        **means,
        **against_best,
    )


def _case_means(scores: Sequence[CaseScore], figure: str) -> np.ndarray:
    # -> float64, (cases,): mean over structures, nan where nothing is scored
    return np.array([_mean([getattr(item, figure) for item in score.structures]) for score in scores])


def _by_patient(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    # -> float64, (patients,): mean over each patient's cases, patients without a figure left out
    of: dict[str, list[float]] = {}
    for patient, value in zip(patients, values, strict=True):
        of.setdefault(patient, []).append(float(value))
    means = np.array([_mean(row) for row in of.values()])
    return means[np.isfinite(means)]


def _over_patients(values: np.ndarray, patients: Sequence[str]) -> float:
    return _mean(_by_patient(values, patients))


def _mean(values: Iterable[float]) -> float:
    there = [float(value) for value in values if value == value]
    return math.fsum(there) / len(there) if there else math.nan


def _p_value(gains: np.ndarray) -> float:
    if not gains.size:
        return math.nan
    return float(wilcoxon(gains[gains != 0]).pvalue) if gains.any() else 1.0


def _half_width(gains: np.ndarray, seed: int) -> float:
    if gains.size < FEWEST_GROUPS:
        return math.nan
    weights = resample_groups([str(i) for i in range(gains.size)], seed=seed, key="candidates compared")
    low, high = np.percentile(weights @ gains / gains.size, (2.5, 97.5))
    return float(high - low) / 2
