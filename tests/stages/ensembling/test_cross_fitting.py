import math

import numpy as np
import pytest

from autoseg.records.choice import EnsembleChoice
from autoseg.records.evaluation import CaseScore
from autoseg.stages.ensembling import HeldOut, ask, choose, cross_fit, estimates
from autoseg.stages.ensembling.cross_fitting import parts
from autoseg.stages.evaluating import score
from tests.stages.ensembling.test_selection import CASES, FOLDS, LABELS, Candidates, truth_of


def test_parts_are_the_folds_and_split_no_patient():
    found = parts(CASES)
    assert list(found) == [f"fold {name}" for name in FOLDS]
    assert found["fold 1"] == (1, 6, 11)
    assert sorted(row for rows in found.values() for row in rows) == list(range(15))


def test_one_fold_is_parted_by_patients():
    cases = [HeldOut(id=f"c{i}", group=f"p{i // 2}", fold="0") for i in range(12)]
    found = parts(cases)
    assert list(found) == [f"share {number} of 5" for number in range(1, 6)]
    for rows in found.values():
        patients = {cases[row].group for row in rows}
        assert {row for row, case in enumerate(cases) if case.group in patients} == set(rows)
    assert parts([HeldOut(id="a", group="p", fold="0"), HeldOut(id="b", group="p", fold="0")]) == {}


class Coins(Candidates):
    """Candidates that are equally good: which looks best is luck."""

    def __call__(self, candidate: str, case: str) -> np.ndarray:
        truth = truth_of(case).array
        rng = np.random.default_rng([sum(candidate.encode()), int(case[-2:])])
        wrong = np.where(rng.random(truth.shape) < rng.choice([0.02, 0.5]), rng.integers(0, 3, truth.shape), truth)
        return np.stack([np.where(wrong == value, 255, 0) for value in range(3)]).astype(np.uint8)


def fitted(names: tuple[str, ...]):
    probabilities = Coins({})
    question = ask({name: FOLDS for name in names}, CASES, LABELS, probabilities=probabilities, truth=truth_of)

    def judge(choice: EnsembleChoice, case: HeldOut) -> CaseScore:
        mean = sum(
            share * probabilities(name, case.id).astype(float)
            for name, share in zip(choice.members, choice.weights, strict=True)
        )
        truth = truth_of(case.id)
        predicted = type(truth)(mean.argmax(axis=0).astype(np.uint8), truth.grid)
        return score(case.id, LABELS, truth, predicted)

    whole = choose(question, plan="default")
    fits, honest = cross_fit(question, lambda rows: choose(question, plan="default", rows=rows), judge)
    optimistic = [judge(whole, case) for case in CASES]
    groups = {case.id: case.group for case in CASES}
    return whole, fits, honest, estimates("dice", optimistic, honest, groups)[0]


def test_the_luck_of_the_best_of_many_is_not_in_the_honest_estimate():
    names = tuple(f"coin{i:02}" for i in range(12))
    whole, fits, honest, found = fitted(names)
    assert [fit.part for fit in fits] == [f"fold {name}" for name in FOLDS]
    assert sorted(item.case for item in honest) == [case.id for case in CASES]
    assert found.optimistic == pytest.approx(whole.mean_dice)
    assert found.honest < found.optimistic - 0.01
    assert found.low < found.honest < found.high


def test_without_a_choice_both_estimates_are_the_same():
    _, fits, _, found = fitted(("coin",))
    assert {fit.members for fit in fits} == {("coin",)}
    assert found.honest == pytest.approx(found.optimistic)


def test_without_parts_there_is_no_honest_estimate():
    one = [score("case_00", LABELS, truth_of("case_00"), truth_of("case_00"))]
    (found,) = estimates("dice", one, (), {})
    assert found.optimistic == 1
    assert math.isnan(found.honest)


def test_no_case_is_judged_by_a_choice_that_it_made():
    seen: dict[str, set[int]] = {}
    question = ask({"a": FOLDS}, CASES, LABELS, probabilities=Candidates({"a": 0.2}), truth=truth_of)

    def choose_from(rows):
        choice = choose(question, plan="default", rows=rows)
        return choice.model_copy(update={"notes": (",".join(map(str, rows)),)})

    def judge(choice, case):
        seen[case.id] = {int(row) for row in choice.notes[0].split(",")}
        return score(case.id, LABELS, truth_of(case.id), truth_of(case.id))

    cross_fit(question, choose_from, judge)
    for row, case in enumerate(CASES):
        fold_mates = {place for place, other in enumerate(CASES) if other.fold == case.fold}
        assert row in fold_mates
        assert not seen[case.id] & fold_mates
