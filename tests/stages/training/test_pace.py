import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.stages.training.pace import pace

SECONDS = st.lists(st.floats(0.01, 10), min_size=20, max_size=60)


def test_few_steps_have_their_median():
    assert pace([9.0]) == 9.0
    assert pace([9.0, 1.0, 2.0]) == 2.0


def test_four_groups_of_five():
    assert pace([9.0] + [1.0] * 4 + [2.0] * 5 + [3.0] * 5 + [1.0] * 5) == 2.0


def test_the_oldest_steps_that_fill_no_group_do_not_count():
    assert pace([99.0, 99.0, *[1.0] * 20]) == 1.0


def test_it_needs_a_step():
    with pytest.raises(statistics.StatisticsError):
        pace([])


@given(SECONDS, st.floats(1, 1e4))
def test_one_slow_step_moves_it_no_further_than_the_other_groups_reach(seconds, extra):
    spoilt = [*seconds[:7], seconds[7] + extra, *seconds[8:]]
    first = len(seconds) % 5
    means = sorted(sum(seconds[at : at + 5]) / 5 for at in range(first, len(seconds), 5))
    assert pace(seconds) <= pace(spoilt) <= means[(len(means) - 1) // 2 + 1] + 1e-9


@given(SECONDS)
def test_it_lies_between_the_fastest_and_the_slowest(seconds):
    assert min(seconds) - 1e-9 <= pace(seconds) <= max(seconds) + 1e-9
