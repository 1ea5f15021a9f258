import math

import numpy as np
import pytest

from autoseg.records.errors import UsageError
from autoseg.records.evaluation import CaseScore, Evaluation
from autoseg.stages.evaluating import CandidateTable, TrainedCandidate, compare_candidates
from autoseg.stages.evaluating.paired_tests import holm
from tests.stages.evaluating.test_tables import structure

NAN = math.nan


def trained(
    name: str, folds: dict[str, dict[str, float | tuple[float, ...]]], seconds: float = 1800
) -> TrainedCandidate:
    """A candidate from fold -> case -> Dice (of one structure, or of several)."""
    evaluations = {}
    for fold, cases in folds.items():
        scores = []
        for case, dice in cases.items():
            values = dice if isinstance(dice, tuple) else (dice,)
            scores.append(CaseScore(case=case, structures=tuple(structure(f"s{i}", v) for i, v in enumerate(values))))
        evaluations[fold] = Evaluation(members=(f"{name}/fold_{fold}",), scores=tuple(scores))
    return TrainedCandidate(
        name=name,
        evaluations=evaluations,
        seconds=dict.fromkeys(folds, seconds),
        parameters=2_000_000,
        memory_bytes=3 * 2**30,
    )


def many(name: str, dice: np.ndarray) -> TrainedCandidate:
    return trained(name, {"0": {f"c{i:02}": float(value) for i, value in enumerate(dice)}})


def names(table: CandidateTable) -> list[str]:
    return [row.name for row in table.rows]


def test_the_best_comes_first_with_scores_and_cost():
    worse = trained("worse", {"0": {"a": 0.4, "b": 0.6}, "1": {"c": 0.5}})
    better = trained("better", {"0": {"a": 0.6, "b": 0.8}, "1": {"c": 0.7}}, seconds=3600)
    table = compare_candidates([worse, better], {})
    assert names(table) == ["better", "worse"]
    assert (table.folds, table.cases, table.patients, table.notes) == (("0", "1"), 3, 3, ())
    first, second = table.rows
    assert (first.dice, second.dice) == (pytest.approx(0.7), pytest.approx(0.5))
    assert (first.hd95_mm, first.surface_dice, first.precision) == (1.0, pytest.approx(0.7), pytest.approx(0.7))
    assert (first.training_hours, second.training_hours) == (2.0, 1.0)  # two folds of an hour, of half an hour
    assert (first.parameters, first.memory_gb) == (2_000_000, 3.0)
    assert (first.gain, second.gain) == (0.0, pytest.approx(-0.2))
    assert math.isnan(first.p_value)
    assert math.isnan(second.smallest_difference)  # three patients give no interval


def test_only_the_folds_that_all_share_count():
    short = trained("short", {"0": {"a": 0.9}})
    whole = trained("whole", {"0": {"a": 0.5}, "1": {"b": 1.0}})
    table = compare_candidates([whole, short], {})
    assert (table.folds, table.cases) == (("0",), 1)
    assert [row.dice for row in table.rows] == [0.9, 0.5]
    assert table.rows[1].training_hours == 0.5
    assert table.notes == ("Compared on fold 0, which all were trained on; whole has folds 0, 1.",)


def test_who_shares_no_fold_is_left_out_and_named():
    both = {"0": {"a": 0.5}, "1": {"b": 0.5}}
    table = compare_candidates([trained("alone", {"2": {"c": 0.9}}), trained("x", both), trained("y", both)], {})
    assert names(table) == ["x", "y"]
    assert table.notes == ("alone was left out: it was trained on fold 2 only.",)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([], "no candidate was trained on a fold with held-out cases, and a comparison needs two candidates."),
        (
            [trained("default/full/base_s0", {"0": {"a": 0.5}})],
            "only default/full/base_s0 was trained on a fold with held-out cases, and a comparison needs two "
            "candidates. Train another preset under a plan of its own (`--plan`), or a `--variant` or a `--seed`",
        ),
        (
            [trained("x", {"0": {"a": 0.5}}), trained("y", {"1": {"b": 0.5}, "2": {"c": 0.5}})],
            "no two candidates were trained on the same fold (x: fold 0; y: folds 1, 2). Train them on one fold",
        ),
    ],
)
def test_what_is_said_where_there_is_nothing_to_compare(there: list[TrainedCandidate], words: str):
    with pytest.raises(UsageError) as caught:
        compare_candidates(there, {})
    assert words in str(caught.value)


def test_a_loss_in_every_one_of_eight_patients_is_no_chance():
    best = np.linspace(0.7, 0.9, 8)
    table = compare_candidates([many("best", best), many("other", best - np.linspace(0.01, 0.08, 8))], {})
    assert table.rows[1].p_value == pytest.approx(2 / 2**8)
    assert table.rows[1].gain == pytest.approx(-0.045)
    # t(0.975) and t(0.80) of 7 degrees of freedom are 2.365 and 0.896.
    spread = np.linspace(0.01, 0.08, 8).std(ddof=1) / math.sqrt(8)
    assert table.rows[1].smallest_difference == pytest.approx((2.365 + 0.896) * spread, abs=1e-4)
    low, high = table.rows[1].intervals["gain"]
    assert low < -0.045 < high < 0


def test_three_comparisons_are_corrected():
    best = np.linspace(0.7, 0.9, 8)
    drop = np.linspace(0.01, 0.08, 8)
    mixed = drop * np.array([1, -1, 1, -1, 1, -1, 1, 1])
    others = [many("a", best - drop), many("b", best - 2 * drop), many("c", best - mixed), many("best", best)]
    found = {row.name: row.p_value for row in compare_candidates(others, {}).rows}
    assert found["a"] == found["b"] == pytest.approx(3 * 2 / 2**8)
    alone = {row.name: row.p_value for row in compare_candidates([others[2], others[3]], {}).rows}
    assert found["c"] == pytest.approx(alone["c"])  # the largest of three p-values is not corrected


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, NAN, 0.9]) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert holm([]) == []


def test_scans_of_one_patient_are_one_witness():
    best = np.linspace(0.7, 0.9, 8)
    pair = [many("best", best), many("other", best - np.linspace(0.01, 0.08, 8))]
    groups = {f"c{i:02}": f"p{i // 2}" for i in range(8)}
    table = compare_candidates(pair, groups)
    assert (table.cases, table.patients) == (8, 4)
    assert table.rows[1].p_value == pytest.approx(2 / 2**4)
    assert math.isnan(table.rows[1].smallest_difference)


def test_a_patient_with_many_scans_weighs_as_one():
    groups = {"a": "p", "b": "p", "c": "p", "d": "q"}
    first = trained("first", {"0": {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}})
    second = trained("second", {"0": {"a": 0.6, "b": 0.6, "c": 0.6, "d": 0.6}})
    table = compare_candidates([first, second], groups)
    assert [(row.name, row.dice) for row in table.rows] == [("second", pytest.approx(0.6)), ("first", 0.5)]


def test_what_is_scored_in_one_only_is_no_pair():
    first = trained("first", {"0": {"a": 0.8, "b": (0.6, NAN), "c": NAN}})
    second = trained("second", {"0": {"a": 0.7, "b": (0.6, 0.0), "c": 0.0}})  # a spurious structure fails
    rows = compare_candidates([first, second], {}).rows
    assert [row.dice for row in rows] == [pytest.approx(0.7), pytest.approx((0.7 + 0.3 + 0.0) / 3)]
    assert rows[1].gain == pytest.approx((-0.1 - 0.3) / 2)


def test_equal_candidates_do_not_differ():
    rows = compare_candidates([many("a", np.full(6, 0.5)), many("b", np.full(6, 0.5))], {}).rows
    assert [row.name for row in rows] == ["a", "b"]
    assert (rows[1].gain, rows[1].p_value, rows[1].smallest_difference) == (0.0, 1.0, 0.0)


def test_the_table_survives_being_written():
    table = compare_candidates([many("a", np.full(3, 0.5)), many("b", np.full(3, 0.4))], {})
    again = CandidateTable.parse(table.to_json(), file="")
    assert again.to_json() == table.to_json()
