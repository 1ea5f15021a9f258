import math

import numpy as np
import pytest

from autoseg.records.errors import DataError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.stages.evaluating import compare, interval
from autoseg.stages.evaluating.statistics import dice_table, pooled_mean, resample_groups
from tests.stages.evaluating.test_tables import structure

NAN = math.nan


def evaluation(*dice: float, names: tuple[str, ...] = ()) -> Evaluation:
    cases = names or tuple(f"case_{i:02}" for i in range(len(dice)))
    scores = [
        CaseScore(case=case, structures=(structure("organ", value),)) for case, value in zip(cases, dice, strict=True)
    ]
    return Evaluation(members=("m",), scores=tuple(scores))


def test_the_mean_is_over_structures_of_means_over_cases():
    table = np.array([[1.0, 0.5], [0.0, NAN], [0.5, NAN]])
    assert pooled_mean(table).tolist() == [(0.5 + 0.5) / 2]
    assert pooled_mean(table, np.array([[2, 0, 0], [0, 1, 1]])).tolist() == [0.75, 0.25]
    assert math.isnan(pooled_mean(np.array([[NAN]]))[0])


def test_it_is_the_mean_that_an_evaluation_states():
    scored = evaluation(0.4, NAN, 0.9)
    assert pooled_mean(dice_table(scored)[0])[0] == pytest.approx(scored.mean_dice())


def test_patients_are_drawn_with_all_their_cases():
    weights = resample_groups(["p", "p", "q", "r"], seed=0, key="x", count=50)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert set((weights[:, 0] + weights[:, 2] + weights[:, 3]).tolist()) == {3}
    assert np.array_equal(weights, resample_groups(["p", "p", "q", "r"], seed=0, key="x", count=50))
    assert not np.array_equal(weights, resample_groups(["p", "p", "q", "r"], seed=0, key="y", count=50))


def test_the_interval_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    dice = np.clip(rng.normal(0.8, 0.1, 100), 0, 1)
    found = interval(evaluation(*dice), {})
    half = 1.96 * dice.std() / math.sqrt(100)
    assert found.mean == pytest.approx(dice.mean())
    assert found.low == pytest.approx(dice.mean() - half, abs=0.004)
    assert found.high == pytest.approx(dice.mean() + half, abs=0.004)


def test_scans_of_one_patient_are_no_independent_witnesses():
    scored = evaluation(*[0.9, 0.5] * 10)
    own = interval(scored, {})
    shared = interval(scored, {f"case_{i:02}": f"p{i % 2}_{i // 7}" for i in range(20)})
    assert shared.groups == 6
    assert shared.high - shared.low > own.high - own.low


def test_four_patients_give_no_interval():
    found = interval(evaluation(0.1, 0.2, 0.3, 0.4), {})
    assert math.isnan(found.low)
    assert found.mean == pytest.approx(0.25)


def test_a_gain_in_every_one_of_eight_cases_is_no_chance():
    before = np.linspace(0.5, 0.8, 8)
    (row,) = compare(evaluation(*before), evaluation(*(before + np.linspace(0.01, 0.08, 8))))
    assert row.p_value == pytest.approx(2 / 2**8)  # all eight signs alike, either way
    assert row.median_gain == pytest.approx(0.045)


def test_equal_evaluations_do_not_differ():
    (row,) = compare(evaluation(0.5, NAN), evaluation(0.5, NAN))
    assert (row.cases, row.p_value, row.median_gain) == (1, 1.0, 0.0)


def test_cases_are_matched_by_name():
    (row,) = compare(evaluation(0.1, 0.9, names=("a", "b")), evaluation(0.9, 0.1, names=("b", "a")))
    assert row.median_gain == 0


def test_other_cases_cannot_be_compared():
    with pytest.raises(DataError, match="do not score the same cases"):
        compare(evaluation(0.5, names=("a",)), evaluation(0.5, names=("b",)))
