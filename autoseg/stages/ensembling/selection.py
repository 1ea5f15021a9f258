"""Which candidates predict together: greedy forward selection on pooled out-of-fold cases.

Every candidate is judged on cases that it has not trained on, all on the same ones, in the original geometry, by the
mean over structures of the mean over cases of the metric. The best single candidate starts; each round adds the
candidate (again, or a new one) that helps most; it stops when the gain may be noise: when the 2.5th percentile of the
gain over 1000 resamples of patients is not above zero. With a budget of seconds a case, what costs more is no choice.

Source: Caruana et al. 2004 (ensemble selection with replacement).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoseg.records.choice import Candidate, EnsembleChoice
from autoseg.records.errors import UsageError
from autoseg.stages.ensembling.question import Question
from autoseg.stages.evaluating.statistics import FEWEST_GROUPS, pooled_mean, resample_groups

MOST_ROUNDS = 6

WORDS = {"dice": "Dice", "surface_dice": "surface Dice", "lesion_f1": "lesion F1", "mean_rank": "scaled rank"}


@dataclass(frozen=True)
class Budget:
    """What an ensemble may cost.

    Attributes:
        seconds: Candidate -> seconds that it takes for one case with all of its folds; {} where nobody measured.
        seconds_per_case: The most that the members may take together; None: no bound.
        taken: Members that predict in any case, for other structures.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    seconds_per_case: float | None = None
    taken: tuple[str, ...] = ()

    def cost(self, names: Sequence[str]) -> float:
        """Return seconds a case of these candidates together; nan where one of them was not measured."""
        return sum(self.seconds.get(name, float("nan")) for name in names)

    def allows(self, names: Sequence[str]) -> bool:
        """Return whether these candidates together, and what is taken, stay within it."""
        together = tuple(dict.fromkeys((*self.taken, *names)))
        return self.seconds_per_case is None or self.cost(together) <= self.seconds_per_case


def choose(
    question: Question, *, plan: str, budget: Budget | None = None, rows: Sequence[int] | None = None, seed: int = 0
) -> EnsembleChoice:
    """Return the candidates that predict best together, with all that was looked at.

    Args:
        question: The candidates and their cases.
        plan: Its name, for the record.
        budget: What an ensemble may cost; None: anything.
        rows: Places of the cases in `question.cases` to choose by; None: all of them.
        seed: Of the resampling; the same inputs and seed give the same choice.

    Raises:
        UsageError: No candidate is cheap enough.
        DataError: Probabilities do not fit their truth.
    """
    budget = budget or Budget()
    rows = range(len(question.cases)) if rows is None else rows
    path = grow(question, budget, rows, seed)
    best = path.weights[path.accepted]
    members = members_of(question, best)
    cost = budget.cost(members)
    return EnsembleChoice(
        plan=plan,
        members=members,
        weights=_normalised(best),
        folds=common_folds(question, members),
        candidates=(*_as_candidates(path, question), *_left_out(question, budget)),
        mean_dice=path.dice[path.accepted],
        metric=question.metric,
        seconds_per_case=None if math.isnan(cost) else cost,
        notes=(*question.notes, *path.notes),
    )


def common_folds(question: Question, members: Sequence[str]) -> tuple[str, ...]:
    """Return the folds that all of these candidates were trained for."""
    first, *others = (question.folds[name] for name in members)
    return tuple(fold for fold in first if all(fold in folds for folds in others))


def patients_of(question: Question, rows: Sequence[int]) -> list[str]:
    """Return the patient of each case in these places."""
    return [question.cases[row].group for row in rows]


@dataclass
class Path:
    """Every trial in order, and which one stands."""

    weights: list[np.ndarray] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    because: list[str] = field(default_factory=list)
    accepted: int = 0
    notes: list[str] = field(default_factory=list)


def grow(question: Question, budget: Budget, rows: Sequence[int], seed: int) -> Path:
    """Return the path of the greedy selection from the cases in these places."""
    one_each = np.eye(len(question.names), dtype=np.int64)
    path = Path()
    singles = _affordable(question, budget, one_each)
    tables = question.tables(singles, rows)
    path.accepted = _record(path, question, singles, tables, step=1)
    path.because[path.accepted] = "best of the single candidates" if len(singles) > 1 else "the only candidate"
    groups = patients_of(question, rows)
    if len(question.names) > 1 and len(set(groups)) < FEWEST_GROUPS:
        path.notes.append(
            f"The best single candidate was taken: {len(set(groups))} patients are too few to tell a gain from noise "
            f"(at least {FEWEST_GROUPS})."
        )
        return path
    for step in range(2, MOST_ROUNDS + 1 if len(singles) > 1 else 2):
        standing = path.weights[path.accepted]
        trials = np.array([item for item in standing + one_each if budget.allows(members_of(question, item))])
        if not len(trials):
            break
        # What stands competes as well: ranks are among those that are there.
        tables = question.tables(np.concatenate([trials, standing[None]]), rows)
        first = len(path.dice)
        position = _record(path, question, trials, tables, step=step)
        merits = question.merits(tables)
        better, words = gain_words(
            merits[position - first],
            merits[-1],
            groups,
            seed=seed,
            key=f"selection round {step}",
            word=WORDS[question.metric],
        )
        if not _accept(path, position, words, better=better):
            break
    return path


def _affordable(question: Question, budget: Budget, one_each: np.ndarray) -> np.ndarray:
    kept = [row for name, row in zip(question.names, one_each, strict=True) if budget.allows([name])]
    if not kept:
        cheapest = min(question.names, key=lambda name: budget.seconds.get(name, float("inf")))
        raise UsageError(
            f"no candidate takes less than {budget.seconds_per_case:g} seconds a case; the cheapest, {cheapest}, takes "
            f"{budget.cost([cheapest]):.3g}",
            fix="Give more --seconds-per-case, or train a smaller network.",
            code="over_budget",
        )
    return np.array(kept)


def _record(path: Path, question: Question, weights: np.ndarray, tables: np.ndarray, *, step: int) -> int:
    # Appends every trial of a round; -> the place of the best one in the path.
    scores = [float(pooled_mean(table)[0]) for table in question.merits(tables)[: len(weights)]]
    first = len(path.dice)
    best = first + int(np.argmax(np.nan_to_num(scores, nan=-1.0)))
    word = WORDS[question.metric]
    for row, table, score in zip(weights, tables, scores, strict=False):
        path.weights.append(row)
        path.dice.append(float(pooled_mean(table[0])[0]))
        path.scores.append(score)
        path.steps.append(step)
        path.because.append(f"mean {word} {score:.4f}, the best of round {step} has {scores[best - first]:.4f}")
    return best


def _accept(path: Path, position: int, words: str, *, better: bool) -> bool:
    if better:
        path.because[path.accepted] += f"; improved on in round {path.steps[position]}"
        path.because[position] = words
        path.accepted = position
    else:
        path.because[position] = f"{words}: may be noise, stopped here"
    return better


def gain_words(
    new: np.ndarray, old: np.ndarray, patients: Sequence[str], *, seed: int, key: str, word: str
) -> tuple[bool, str]:
    """Return whether a figure grows by more than noise, patients resampled, and by how much in words.

    Args:
        new, old: Of the same cases, (cases, targets).
        patients: Of each case.
        seed: Of the resampling.
        key: What is asked, as `resample_groups` takes it.
        word: What the figure is called.
    """
    weights = resample_groups(patients, seed=seed, key=key)
    gain = float(pooled_mean(new)[0] - pooled_mean(old)[0])
    gains = pooled_mean(new, weights) - pooled_mean(old, weights)
    gains = gains[np.isfinite(gains)]
    low = float(np.percentile(gains, 2.5)) if gains.size else 0.0
    words = f"adds {gain:+.4f} {word}, at least {low:+.4f} in 97.5 % of {len(weights)} resamples of patients"
    return gain > 0 and low > 0, words


def members_of(question: Question, weights: np.ndarray) -> tuple[str, ...]:
    """Return the candidates whose weight is not 0."""
    return tuple(name for name, times in zip(question.names, weights, strict=True) if times)


def _as_candidates(path: Path, question: Question) -> Iterator[Candidate]:
    for position, weights in enumerate(path.weights):
        yield Candidate(
            members=members_of(question, weights),
            weights=_normalised(weights),
            mean_dice=path.dice[position],
            score=path.scores[position],
            step=path.steps[position],
            chosen=position == path.accepted,
            because=path.because[position],
        )


def _left_out(question: Question, budget: Budget) -> Iterator[Candidate]:
    for name in question.folds:
        if name not in question.names:
            because = "no held-out case in common with the others: it cannot be compared"
        elif not budget.allows([name]):
            because = f"takes {budget.cost([name]):.3g} s a case, and the budget is {budget.seconds_per_case:g}"
        else:
            continue
        nan = float("nan")
        yield Candidate(members=(name,), weights=(1.0,), mean_dice=nan, step=0, chosen=False, because=because)


def _normalised(weights: np.ndarray) -> tuple[float, ...]:
    return tuple(float(times) / float(weights.sum()) for times in weights if times)
