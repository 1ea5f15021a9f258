"""Structures in the order of their Dice, and how sure that order is."""

from __future__ import annotations

import math

import pytest

from autoseg.records.evaluation import CaseScore, Evaluation, StructureScore
from autoseg.stages.evaluating import rank_structures


def evaluation(rows: list[dict[str, float]]) -> Evaluation:
    def score(name: str, dice: float) -> StructureScore:
        return StructureScore(
            structure=name, dice=dice, iou=dice, precision=dice, recall=dice, hd95_mm=1.0, surface_dice=dice,
            surface_dice_tolerance_mm=2.0, truth_ml=1.0, predicted_ml=1.0,
        )  # fmt: skip

    scores = tuple(
        CaseScore(case=f"c{n}", structures=tuple(score(*item) for item in row.items())) for n, row in enumerate(rows)
    )
    return Evaluation(members=("m",), scores=scores)


def test_a_clear_order_is_the_same_in_every_resample() -> None:
    found = rank_structures(evaluation([{"low": 0.5, "high": 0.9, "middle": 0.7}] * 6), {})
    assert [(item.structure, item.rank, item.dice) for item in found] == [
        ("high", 1, pytest.approx(0.9)),
        ("middle", 2, pytest.approx(0.7)),
        ("low", 3, pytest.approx(0.5)),
    ]
    assert (found[0].low, found[0].high, found[0].first, found[0].last) == (1, 1, 1.0, 0.0)
    assert found[2].last == 1.0


def test_an_order_that_hangs_on_one_patient_is_not_sure() -> None:
    rows = [{"a": 0.8, "b": 0.79}] * 5 + [{"a": 0.1, "b": 0.79}]
    first, second = rank_structures(evaluation(rows), {})
    assert (first.structure, second.structure) == ("b", "a")
    assert (second.low, second.high) == (1, 2)
    # The bad patient is in no resample with probability (5 / 6) ** 6.
    assert second.first == pytest.approx((5 / 6) ** 6, abs=0.05)


def test_scans_of_one_patient_are_one_witness_and_few_patients_say_nothing() -> None:
    rows = [{"a": 0.8, "b": 0.5}] * 6
    found = rank_structures(evaluation(rows), {f"c{n}": "one" for n in range(6)})
    assert math.isnan(found[0].low)
    assert [item.rank for item in found] == [1, 2]


def test_what_was_never_scored_is_left_out_and_equals_share_a_rank() -> None:
    nan = float("nan")
    found = rank_structures(evaluation([{"a": 0.5, "b": 0.5, "nowhere": nan}] * 5), {})
    assert [(item.structure, item.rank) for item in found] == [("a", 1), ("b", 1)]
    assert rank_structures(evaluation([{"nowhere": nan}] * 5), {}) == ()
