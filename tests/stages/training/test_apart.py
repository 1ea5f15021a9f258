import pytest

from autoseg.records.errors import UsageError
from autoseg.records.preset import Recipe
from autoseg.stages.training import apart
from tests.stages.training.records import make_case

CASES = [make_case(f"{patient}{side}") for patient in "abcdefghij" for side in "12"]
GROUPS = {case.id: case.id[0] for case in CASES}


def test_whole_patients_are_set_apart():
    chosen = apart.choose(CASES, GROUPS, Recipe(monitor_fraction=0.2), seed=0)
    assert len(chosen) == 4
    patients = {id[0] for id in chosen}
    assert chosen == sorted(id for id in GROUPS if id[0] in patients)


def test_another_seed_sets_others_apart_and_the_order_of_cases_nobody():
    recipe = Recipe(monitor_fraction=0.2)
    first = apart.choose(CASES, GROUPS, recipe, seed=0)
    assert apart.choose(CASES[::-1], GROUPS, recipe, seed=0) == first
    assert any(apart.choose(CASES, GROUPS, recipe, seed=seed) != first for seed in range(1, 4))


def test_somebody_is_left_to_train_on_and_somebody_to_measure():
    for fraction in (0.01, 1.0):
        chosen = apart.choose(CASES, GROUPS, Recipe(monitor_fraction=fraction), seed=0)
        assert 0 < len(chosen) < len(CASES)


def test_one_patient_cannot_be_split():
    with pytest.raises(UsageError, match="leaves nobody to train on"):
        apart.choose(CASES[:2], GROUPS, Recipe(monitor_fraction=0.1), seed=0)


@pytest.mark.parametrize("recipe", [Recipe(stop_epochs=3), Recipe(schedule="plateau")])
def test_steering_without_anybody_to_measure_on_is_refused(recipe):
    with pytest.raises(UsageError, match=r"Add --set monitor_fraction=0\.1"):
        apart.choose(CASES, GROUPS, recipe, seed=0)
