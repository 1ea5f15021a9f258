"""What is asked of the candidates: how good any weighted sum of them is, case by case and structure by structure.

Every sum is scored on all shared cases at once and remembered, so that a selection from some of the cases (as
cross-fitting does it) costs little after the selection from all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoseg.records.choice import Metric
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.metrics import Family, Scoring, usual_tolerance_mm
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling.counting import (
    CaseReader,
    HeldOut,
    Judged,
    TruthReader,
    Voxels,
    check_parts,
    dice_of_sums,
    label_map_of_sum,
    undecided,
    without_unannotated,
)
from autoseg.stages.evaluating.scoring import score

CACHE_BYTES = 1 * 2**30

# What each metric is made of; Dice always stands first, for people to compare by.
FIGURES: dict[Metric, tuple[str, ...]] = {
    "dice": ("dice",),
    "surface_dice": ("dice", "surface_dice"),
    "lesion_f1": ("dice", "lesion_f1"),
    "mean_rank": ("dice", "surface_dice"),
}


@dataclass(frozen=True)
class Question:
    """The candidates that compete, the cases they share, and how to read them.

    Attributes:
        folds: Candidate -> the folds that it was trained for, of all candidates, competing or not.
        names: Of the candidates that compete.
        cases: That all of them have predicted.
        metric: What the best is best in.
        notes: What is missing, in words.
        only: The place of the one target that competing sums are judged by; None: all.
    """

    folds: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]
    cases: tuple[HeldOut, ...]
    labels: Labels
    probabilities: CaseReader
    truth: TruthReader
    metric: Metric = "dice"
    notes: tuple[str, ...] = ()
    only: int | None = None
    cache: dict[str, Voxels] = field(default_factory=dict)
    known: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)

    def tables(self, weights: np.ndarray, rows: Sequence[int] | None = None) -> np.ndarray:
        """Return the figures of every weighted sum, float64, (sums, figures, cases, targets).

        Args:
            weights: Whole numbers, (sums, candidates); only ratios matter.
            rows: Places of the cases in `cases`; None: all.
        """
        keys = [_key(weight) for weight in weights]
        unknown = [key for key in dict.fromkeys(keys) if key not in self.known]
        if unknown:
            found = self._scored(np.array(unknown, dtype=np.int64))
            self.known.update(zip(unknown, found, strict=True))
        tables = np.stack([self.known[key] for key in keys])
        return tables if rows is None else tables[:, :, list(rows)]

    def table_by_class(self, weights: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Return the figures of one sum whose channels have weights of their own, float64, (figures, cases, targets).

        Args:
            weights: Whole numbers, (candidates, channels); each channel's add up to the same.
            rows: Places of the cases in `cases`.
        """
        key = (*weights.shape, *map(int, weights.ravel()))
        if key not in self.known:
            self.known[key] = self._scored(weights[None])[0]
        return self.known[key][:, list(rows)]

    def merits(self, tables: np.ndarray) -> np.ndarray:
        """Return what the metric makes of competing sums, (sums, cases, targets), from `tables`; more is better."""
        here = tables if self.only is None else tables[..., self.only : self.only + 1]
        if self.metric == "mean_rank":
            return nan_mean(scaled_ranks(here), axis=1)
        return here[:, -1]

    def _scored(self, weights: np.ndarray) -> np.ndarray:
        figures = FIGURES[self.metric]
        result = np.full((len(weights), len(figures), len(self.cases), len(self.labels.targets)), np.nan)
        for column, case in enumerate(self.cases):
            truth = self.truth(case.id)
            voxels = self._read(case, truth)
            for row, dice in enumerate(dice_of_sums(voxels, weights, labels=self.labels)):
                result[row, 0, column] = without_unannotated(dice, case, self.labels)
            if len(figures) > 1:
                result[:, 1, column] = [self._figure(figures[1], case, truth, voxels, weight) for weight in weights]
        return result

    def _figure(self, figure: str, case: HeldOut, truth: LabelMap, voxels: Voxels, weight: np.ndarray) -> list[float]:
        prediction = label_map_of_sum(voxels, weight, grid=truth.grid, labels=self.labels)
        return figure_row(figure, case, self.labels, truth=truth, prediction=prediction)

    def _read(self, case: HeldOut, truth: LabelMap) -> Voxels:
        if case.id in self.cache:
            return self.cache[case.id]
        parts = [self.probabilities(name, case.id) for name in self.names]
        check_parts(case.id, truth, parts, self.labels)
        found = undecided(truth.array, parts, self.labels)
        if found.bytes + sum(voxels.bytes for voxels in self.cache.values()) <= CACHE_BYTES:
            self.cache[case.id] = found
        return found


def ask(
    candidates: Mapping[str, tuple[str, ...]],
    cases: Sequence[HeldOut],
    labels: Labels,
    *,
    probabilities: CaseReader,
    truth: TruthReader,
    metric: Metric = "dice",
) -> Question:
    """Return the question that a selection answers.

    Args:
        candidates: `ModelId.candidate()` -> the folds that it was trained for.
        cases: Cases of cross-validation, each with the fold that holds it out.
        labels: What is segmented.
        probabilities: (candidate, case) -> uint8 (K, Z, Y, X), 0..255, on the case's original grid; called once a
            case and candidate, or once a round where memory does not hold them all.
        truth: Case -> its truth on the original grid.
        metric: What the best is best in.

    Raises:
        UsageError: No candidate has predicted a held-out case.
    """
    names, shared, notes = _comparable(candidates, cases)
    return Question(candidates, names, shared, labels, probabilities, truth, metric=metric, notes=tuple(notes))


def figure_row(
    figure: str,
    case: Judged,
    labels: Labels,
    *,
    truth: LabelMap,
    prediction: LabelMap,
    targets: frozenset[str] | None = None,
) -> list[float]:
    """Return one figure of `StructureScore` for every target of a label map; nan where there is nothing to score.

    Only `targets` are computed where they are named; the others are nan.
    """
    families: dict[str, Family] = {"surface_dice": "surfaces", "lesion_f1": "lesions"}
    scoring = Scoring(
        families=frozenset({families[figure]} if figure in families else ()),
        tolerances_mm={name: usual_tolerance_mm(name) for name, _ in labels.targets},
        targets=targets,
    )
    found = score(case.id, labels, truth, prediction, annotated=case.annotated, scoring=scoring)
    return [getattr(item, figure) for item in found.structures]


def scaled_ranks(tables: np.ndarray) -> np.ndarray:
    """Return for each entry the share of the others along the first axis that it beats, ties half; nan stays."""
    if len(tables) < 2:
        return np.where(np.isnan(tables), np.nan, 1.0)
    beaten = np.zeros(tables.shape)
    for other in tables:
        beaten += (tables > other) + 0.5 * (tables == other)
    # Everything ties with itself.
    return np.where(np.isnan(tables), np.nan, (beaten - 0.5) / (len(tables) - 1))


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean along an axis, nan left out; nan where nothing is left."""
    there = np.isfinite(values)
    total, count = np.where(there, values, 0.0).sum(axis=axis), there.sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _key(weight: np.ndarray) -> tuple[int, ...]:
    # Twice as much of everything is the same sum.
    divisor = math.gcd(*(int(times) for times in weight))
    return tuple(int(times) // divisor for times in weight)


def _comparable(
    candidates: Mapping[str, tuple[str, ...]], cases: Sequence[HeldOut]
) -> tuple[tuple[str, ...], tuple[HeldOut, ...], list[str]]:
    # -> candidates that have cases in common, these cases, and what is missing in words
    covered = {name: {case.id for case in cases if case.fold in folds} for name, folds in candidates.items()}
    competing: list[str] = []
    common: set[str] = set()
    for name in sorted(covered, key=lambda name: -len(covered[name])):
        both = common & covered[name] if competing else covered[name]
        if both:
            competing, common = [*competing, name], both
    if not competing:
        raise UsageError(
            "no candidate has predicted a held-out case, so there is nothing to choose by",
            fix="Train at least one fold (not `all`) of one configuration.",
            code="no_held_out",
        )
    competing = [name for name in candidates if name in competing]
    return (
        tuple(competing),
        tuple(case for case in cases if case.id in common),
        _missing_words(candidates, cases, common),
    )


def _missing_words(candidates: Mapping[str, tuple[str, ...]], cases: Sequence[HeldOut], common: set[str]) -> list[str]:
    every = sorted({case.fold for case in cases})
    notes = []
    for name, folds in candidates.items():
        absent = [fold for fold in every if fold not in folds]
        if absent:
            notes.append(f"{name} was not trained for fold {', '.join(absent)}.")
    if len(common) < len(cases):
        notes.append(f"Chosen on the {len(common)} of {len(cases)} cases that all compared candidates have predicted.")
    return notes
