from itertools import pairwise

import pytest

from autoseg.records.preset import Recipe
from autoseg.stages.training.schedule import rate


def test_polynomial_starts_at_the_rate_and_is_known_half_way():
    recipe = Recipe(learning_rate=0.01)
    assert rate(0, 100, recipe) == 0.01
    assert rate(50, 100, recipe) == pytest.approx(0.01 * 0.5**0.9)


def test_cosine_is_half_at_half_way():
    assert rate(50, 100, Recipe(learning_rate=0.01, schedule="cosine")) == pytest.approx(0.005)


def test_warmup_stable_decay_rises_stays_and_falls():
    recipe = Recipe(learning_rate=1.0, schedule="warmup_stable_decay", warmup_fraction=0.2, decay_fraction=0.4)
    assert [round(rate(step, 10, recipe), 3) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["polynomial", "cosine", "warmup_stable_decay"])
def test_every_schedule_warms_up_linearly_then_never_rises_nor_reaches_zero(schedule):
    recipe = Recipe(learning_rate=1.0, schedule=schedule, warmup_fraction=0.1)
    rates = [rate(step, 200, recipe) for step in range(200)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert max(rates) == 1.0
    assert all(later <= earlier for earlier, later in pairwise(rates[20:]))
    assert rates[-1] > 0


def test_a_run_of_one_step_has_a_rate():
    assert rate(0, 1, Recipe(learning_rate=0.3, schedule="cosine")) == 0.3
