from itertools import pairwise

import pytest

from autoseg.records.preset import Recipe
from autoseg.stages.training import schedule
from autoseg.stages.training.steering import Phase, Score, last_step, rate

RUN = Phase(start=0, stop=100)


def scores(*values, every=10):
    return tuple(Score(step=every * (index + 1), dice=value) for index, value in enumerate(values))


def test_without_stopping_the_rate_is_the_schedules_and_the_end_the_runs():
    recipe = Recipe()
    flat = scores(*[0.5] * 9)
    assert last_step(RUN, recipe, flat) == 100
    assert [rate(step, RUN, recipe, flat) for step in range(100)] == [
        schedule.rate(step, 100, recipe) for step in range(100)
    ]


def test_a_plateau_is_annealed_before_the_run_ends():
    """Best at 20; 30 and 40 bring nothing; 30 % of 40 steps are annealing: the run ends after 52."""
    recipe = Recipe(learning_rate=1.0, schedule="warmup_stable_decay", stop_epochs=2)
    measured = scores(0.5, 0.6, 0.6005, 0.59)
    assert last_step(RUN, recipe, measured) == 52
    rates = [rate(step, RUN, recipe, measured) for step in range(52)]
    assert rates[:41] == [1.0] * 41
    assert rates[40:] == pytest.approx([(52 - step) / 12 for step in range(40, 52)])


def test_what_is_measured_while_annealing_changes_nothing():
    recipe = Recipe(learning_rate=1.0, schedule="warmup_stable_decay", stop_epochs=2)
    before, after = scores(0.5, 0.6, 0.6, 0.59), scores(0.5, 0.6, 0.6, 0.59, 0.9)
    assert last_step(RUN, recipe, after) == last_step(RUN, recipe, before)
    assert rate(51, RUN, recipe, after) == rate(51, RUN, recipe, before)


def test_a_gain_starts_the_waiting_anew():
    recipe = Recipe(stop_epochs=3)
    assert last_step(RUN, recipe, scores(0.5, 0.5, 0.5, 0.6, 0.6, 0.6)) == 100
    assert last_step(RUN, recipe, scores(0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6)) == 91


def test_a_plateau_near_the_end_never_makes_the_run_longer():
    recipe = Recipe(learning_rate=1.0, stop_epochs=1)
    assert last_step(RUN, recipe, scores(*[0.1 * k for k in range(9)], 0.0, every=9)) == 100


@pytest.mark.parametrize("kind", ["polynomial", "cosine", "warmup_stable_decay", "plateau"])
def test_annealing_never_rises_nor_reaches_zero(kind):
    recipe = Recipe(learning_rate=1.0, schedule=kind, stop_epochs=1)
    measured = scores(0.5, 0.6, 0.6)
    end = last_step(RUN, recipe, measured)
    assert end == 39
    rates = [rate(step, RUN, recipe, measured) for step in range(end)]
    assert all(later <= earlier for earlier, later in pairwise(rates))
    assert rates[-1] > 0


def test_reduce_on_plateau_multiplies_once_per_plateau():
    recipe = Recipe(learning_rate=1.0, schedule="plateau", plateau_epochs=2, plateau_factor=0.5)
    measured = scores(0.5, 0.5, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7)
    assert [rate(step, RUN, recipe, measured) for step in (0, 29, 30, 49, 50, 79, 80)] == [
        1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125,
    ]  # fmt: skip


def test_an_extension_has_the_schedule_of_its_own_length_and_waits_anew():
    recipe = Recipe(learning_rate=1.0, schedule="polynomial", stop_epochs=2)
    added = Phase(start=100, stop=200)
    before = scores(0.5, 0.9, 0.5)
    assert rate(100, added, recipe, before) == 1.0
    assert rate(150, added, recipe, before) == schedule.rate(50, 100, recipe)
    assert last_step(added, recipe, before) == 200
