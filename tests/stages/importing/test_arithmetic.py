from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.arithmetic import evaluate, is_arithmetic, number_in


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_siblings_of_a_pair_come_together(id: int) -> None:
    assert evaluate("(id+1)//2", id) == (id + 1) // 2
    assert evaluate(" id % 7 * 2 - 3 ", id) == id % 7 * 2 - 3


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("id//0", "divides by zero"),
        ("(id+1", "a bracket is not closed"),
        ("id+", "ends too early"),
        ("id id", "'id' is unexpected"),
        ("*id", "'*' is unexpected"),
        ("id/2", "'/2' is not understood"),
        ("__import__('os')", "is not understood"),
        ("+".join(["id"] * 200), "more than 100 parts"),
    ],
)
def test_what_breaks_the_grammar_is_refused(rule: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(rule, 5)
    assert why in caught.value.what


@pytest.mark.parametrize(
    ("rule", "yes"),
    [("(id+1)//2", True), ("id", True), (r"(\d+)_day", False), ("groups.csv", False), ("(.*)id(.*)", False)],
)
def test_it_is_told_from_patterns(rule: str, yes: bool) -> None:
    assert is_arithmetic(rule) is yes


def test_the_number_of_an_id_is_its_last() -> None:
    assert number_in("BRATS20_017") == 17
    with pytest.raises(DataError, match="abc: the id holds no number"):
        number_in("abc")
