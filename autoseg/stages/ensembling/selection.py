"""Which candidates predict together: greedy forward selection on pooled out-of-fold cases.

Every candidate is judged on cases that it has not trained on, all on the same ones, in the original geometry, by the
mean over structures of the mean over cases of Dice. The best single candidate starts; each round adds the candidate
(again, or a new one) that helps most; it stops when the gain may be noise: when the 2.5th percentile of the gain over
1000 resamples of patients is not above zero.

Source: Caruana et al. 2004 (ensemble selection with replacement).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.results import Candidate, EnsembleChoice
from autoseg.stages.ensembling.counting import (
    CaseReader,
    HeldOut,
    TruthReader,
    check_parts,
    dice_of_sums,
    undecided,
    without_unannotated,
)
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, pooled_mean, resample_groups

MOST_ROUNDS = 6
CACHE_BYTES = 1 * 2**30


@dataclass(frozen=True)
class _Question:
    """What is asked: the candidates that compete, the cases they share, and how to read them."""

    names: tuple[str, ...]
    cases: tuple[HeldOut, ...]
    labels: Labels
    probabilities: CaseReader
    truth: TruthReader
    cache: dict[str, tuple[np.ndarray, list[np.ndarray]]] = field(default_factory=dict)

    def read(self, case: HeldOut) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the truth (n,) and the candidates' probabilities (K, n) at the voxels of one case that can count."""
        if case.id in self.cache:
            return self.cache[case.id]
        truth = self.truth(case.id)
        parts = [self.probabilities(name, case.id) for name in self.names]
        check_parts(case.id, truth, parts, self.labels)
        found = undecided(truth.array, parts, self.labels)
        if _bytes([found]) + _bytes(self.cache.values()) <= CACHE_BYTES:
            self.cache[case.id] = found
        return found

    def tables(self, weights: np.ndarray) -> np.ndarray:
        """Return Dice of every weighted sum, float64, (sums, cases, targets); one pass over the cases."""
        result = np.full((len(weights), len(self.cases), len(self.labels.targets)), np.nan)
        for column, case in enumerate(self.cases):
            truth, parts = self.read(case)
            for row, dice in enumerate(dice_of_sums(truth, parts, weights, labels=self.labels)):
                result[row, column] = without_unannotated(dice, case, self.labels)
        return result


def choose(
    candidates: Mapping[str, tuple[str, ...]],
    cases: Sequence[HeldOut],
    labels: Labels,
    *,
    probabilities: CaseReader,
    truth: TruthReader,
    plan: str,
    seed: int = 0,
) -> EnsembleChoice:
    """Return the candidates that predict best together, with all that was looked at.

    Args:
        candidates: `ModelId.candidate()` -> the folds that it was trained for.
        cases: Cases of cross-validation, each with the fold that holds it out.
        labels: What is segmented.
        probabilities: (candidate, case) -> uint8 (K, Z, Y, X), 0..255, on the case's original grid; called once a
            case and candidate, or once a round where memory does not hold them all.
        truth: Case -> its truth on the original grid.
        plan: Its name, for the record.
        seed: Of the resampling; the same inputs and seed give the same choice.

    Raises:
        UsageError: No candidate has predicted a held-out case.
        DataError: Probabilities do not fit their truth.
    """
    competing, shared, notes = _comparable(candidates, cases)
    question = _Question(competing, shared, labels, probabilities, truth)
    path = _grow(question, seed)
    best = path.weights[path.accepted]
    members = tuple(name for name, times in zip(competing, best, strict=True) if times)
    folds = [fold for fold in candidates[members[0]] if all(fold in candidates[name] for name in members)]
    return EnsembleChoice(
        plan=plan,
        members=members,
        weights=_normalised(best),
        folds=tuple(folds),
        candidates=(*_as_candidates(path, competing), *_left_out(candidates, competing)),
        mean_dice=path.means[path.accepted],
        notes=(*notes, *path.notes),
    )


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
    every = list(dict.fromkeys(case.fold for case in cases))
    notes = []
    for name, folds in candidates.items():
        absent = [fold for fold in every if fold not in folds]
        if absent:
            notes.append(f"{name} was not trained for fold {', '.join(absent)}.")
    if len(common) < len(cases):
        notes.append(f"Chosen on the {len(common)} of {len(cases)} cases that all compared candidates have predicted.")
    return notes


@dataclass
class _Path:
    """Every trial in order, and which one stands."""

    weights: list[np.ndarray]
    means: list[float]
    steps: list[int]
    because: list[str]
    accepted: int
    notes: list[str]


def _grow(question: _Question, seed: int) -> _Path:
    count = len(question.names)
    one_each = np.eye(count, dtype=np.int64)
    tables = question.tables(one_each)
    path = _Path([], [], [], [], accepted=0, notes=[])
    position = _record(path, one_each, tables, step=1)
    path.accepted, table = position, tables[position]
    path.because[position] = "best of the single candidates" if count > 1 else "the only candidate"
    groups = [case.group for case in question.cases]
    if count > 1 and len(set(groups)) < FEWEST_GROUPS:
        path.notes.append(
            f"The best single candidate was taken: {len(set(groups))} patients are too few to tell a gain from noise "
            f"(at least {FEWEST_GROUPS})."
        )
        return path
    for step in range(2, MOST_ROUNDS + 1 if count > 1 else 2):
        trials = path.weights[path.accepted] + one_each
        tables = question.tables(trials)
        position = _record(path, trials, tables, step=step)
        new = tables[position - len(path.means)]
        if not _accept(path, position, gains=_gains(new, table, groups, seed=seed, step=step)):
            break
        table = new
    return path


def _record(path: _Path, weights: np.ndarray, tables: np.ndarray, *, step: int) -> int:
    # Appends every trial of a round; -> the place of the best one in the path.
    means = [float(pooled_mean(table)[0]) for table in tables]
    first = len(path.means)
    best = first + int(np.argmax(np.nan_to_num(means, nan=-1.0)))
    highest = means[best - first]
    for row, mean in zip(weights, means, strict=True):
        path.weights.append(row)
        path.means.append(mean)
        path.steps.append(step)
        path.because.append(f"mean Dice {mean:.4f}, the best of round {step} has {highest:.4f}")
    return best


def _gains(new: np.ndarray, old: np.ndarray, groups: Sequence[str], *, seed: int, step: int) -> np.ndarray:
    weights = resample_groups(groups, seed=seed, key=f"selection round {step}")
    gains = pooled_mean(new, weights) - pooled_mean(old, weights)
    return gains[np.isfinite(gains)]


def _accept(path: _Path, position: int, *, gains: np.ndarray) -> bool:
    gain = path.means[position] - path.means[path.accepted]
    low = float(np.percentile(gains, 2.5)) if gains.size else 0.0
    words = f"adds {gain:+.4f} Dice, at least {low:+.4f} in 97.5 % of 1000 resamples of patients"
    if gain > 0 and low > 0:
        path.because[path.accepted] += f"; improved on in round {path.steps[position]}"
        path.because[position] = words
        path.accepted = position
        return True
    path.because[position] = f"{words}: may be noise, stopped here"
    return False


def _as_candidates(path: _Path, names: Sequence[str]) -> list[Candidate]:
    return [
        Candidate(
            members=tuple(name for name, times in zip(names, weights, strict=True) if times),
            weights=_normalised(weights),
            mean_dice=mean,
            step=step,
            chosen=position == path.accepted,
            because=because,
        )
        for position, (weights, mean, step, because) in enumerate(
            zip(path.weights, path.means, path.steps, path.because, strict=True)
        )
    ]


def _left_out(candidates: Mapping[str, tuple[str, ...]], competing: Sequence[str]) -> list[Candidate]:
    return [
        Candidate(
            members=(name,),
            weights=(1.0,),
            mean_dice=float("nan"),
            step=0,
            chosen=False,
            because="no held-out case in common with the others: it cannot be compared",
        )
        for name in candidates
        if name not in competing
    ]


def _bytes(cases: Iterable[tuple[np.ndarray, list[np.ndarray]]]) -> int:
    return sum(truth.nbytes + sum(part.nbytes for part in parts) for truth, parts in cases)


def _normalised(weights: np.ndarray) -> tuple[float, ...]:
    return tuple(float(times) / float(weights.sum()) for times in weights if times)
