"""Weights by structure: taken where they help by more than noise, the same arithmetic wherever they are applied."""

import numpy as np
import pytest

from autoseg.images.fields import Field
from autoseg.images.home import home, home_probabilities
from autoseg.records.choice import EnsembleChoice
from autoseg.records.geometry import Box, Grid
from autoseg.records.labels import Region
from autoseg.records.volumes import Passage
from autoseg.stages.ensembling import Budget, HeldOut, ask, choose, choose_by_class
from tests.stages.ensembling.test_selection import CASES, FOLDS, LABELS, Candidates, truth_of


class Specialists(Candidates):
    """`left` knows the organ and says nothing of the tumour, sure of itself; `right` the other way round."""

    def __call__(self, candidate: str, case: str) -> np.ndarray:
        found = super().__call__(candidate, case)
        unknown = {"left": 2, "right": 1}.get(candidate)
        if unknown is not None:
            moved = found[unknown].astype(float)
            found = found.astype(float)
            found[unknown] -= moved
            found[0] += moved
        return np.round(found).astype(np.uint8)


def chosen(probabilities, names, *, labels=LABELS, cases=CASES, budget=None) -> tuple[EnsembleChoice, EnsembleChoice]:
    question = ask({name: FOLDS for name in names}, cases, labels, probabilities=probabilities, truth=truth_of)
    budget = budget or Budget()
    shared = choose(question, plan="default", budget=budget)
    return shared, choose_by_class(question, shared, budget=budget)


def test_each_structure_takes_the_network_that_knows_it():
    shared, choice = chosen(Specialists({"left": 0.2, "right": 0.2}), ("left", "right"))
    assert choice.members == ("left", "right")
    background, organ, tumour = np.transpose(choice.class_weights)
    assert organ[0] > 0.5 > organ[1]
    assert tumour[1] > 0.5 > tumour[0]
    assert background.sum() == organ.sum() == tumour.sum() == pytest.approx(1)
    assert choice.weights == pytest.approx(((organ + tumour) / 2).tolist())
    assert choice.mean_dice > shared.mean_dice + 0.02
    assert [item.chosen for item in choice.candidates].count(True) == 1
    assert choice.candidates[-1].because.startswith("weights by structure: adds +")
    assert "organ: left" in choice.notes[-1]
    assert "over-fit" in choice.notes[-1]


def test_where_it_may_be_noise_all_structures_share_their_weights():
    shared, choice = chosen(Candidates({"a": 0.25, "b": 0.25}), ("a", "b"))
    assert choice.class_weights == ()
    assert (choice.members, choice.weights) == (shared.members, shared.weights)
    assert "all share one set" in choice.candidates[-1].because
    assert not choice.candidates[-1].chosen


def test_all_structures_together_keep_within_the_budget():
    probabilities = Specialists({"left": 0.2, "right": 0.2})
    budget = Budget({"left": 1.0, "right": 1.0}, seconds_per_case=1.5)
    shared, choice = chosen(probabilities, ("left", "right"), budget=budget)
    assert len(shared.members) == 1
    assert choice.members == shared.members


def test_few_patients_share_one_set_and_are_told_so():
    few = tuple(HeldOut(id=case.id, group=f"p{int(case.fold) % 2}", fold=case.fold) for case in CASES)
    _, choice = chosen(Specialists({"left": 0.2, "right": 0.2}), ("left", "right"), cases=few)
    assert choice.class_weights == ()
    assert "need at least" in choice.notes[-1]


def test_regions_have_weights_of_their_own_and_no_background():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="tumour", values=(2,), original=2))
    labels = LABELS.model_copy(update={"regions": regions})

    class Overlapping(Specialists):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            _, organ, tumour = super().__call__(candidate, case).astype(int)
            return np.stack([organ + tumour, tumour]).astype(np.uint8)

    _, choice = chosen(Overlapping({"left": 0.2, "right": 0.2}), ("left", "right"), labels=labels)
    assert np.shape(choice.class_weights) == (2, 2)
    assert np.sum(choice.class_weights, axis=0) == pytest.approx([1, 1])
    assert choice.class_weights[1][1] > 0.5


def passage() -> Passage:
    grid = Grid(shape=(1, 1, 2), spacing_mm=(1, 1, 1))
    return Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=grid.shape), network=grid)


def field(*probabilities: tuple[float, float], weight) -> Field:
    return Field(np.log(np.array(probabilities, np.float32)).reshape(-1, 1, 1, 2), passage(), weight)


def test_on_the_way_home_each_class_is_mixed_by_its_own_weights():
    """Two voxels. By hand, before they are made to add up to 1: background 0.5 and 0.25, organ 0.3 and 0.6, tumour 0.6
    and 0.1."""
    one = field((0.4, 0.2), (0.3, 0.6), (0.3, 0.2), weight=(0.5, 1.0, 0.0))
    two = field((0.6, 0.3), (0.1, 0.6), (0.6, 0.1), weight=(0.5, 0.0, 1.0))
    # The second's three need not add up to 1: logits are only known up to a constant.
    probabilities = home_probabilities([one, two], output="softmax")
    second = np.array([[0.6, 0.3], [0.1, 0.6], [0.6, 0.1]]) / np.array([1.3, 1.0])
    raw = np.stack([(np.array([0.4, 0.2]) + second[0]) / 2, np.array([0.3, 0.6]), second[2]])
    assert probabilities.reshape(3, 2) == pytest.approx(raw / raw.sum(axis=0), abs=1e-6)
    assert home([one, two], output="softmax").ravel().tolist() == [2, 1]
    even = home_probabilities([Field(one.array, passage()), Field(two.array, passage())], output="softmax")
    assert even.reshape(3, 2)[1] == pytest.approx((np.array([0.3, 0.6]) + second[1]) / 2, abs=1e-6)


def test_records_without_them_keep_their_bytes():
    choice = EnsembleChoice(plan="p", members=("a",), weights=(1.0,), folds=("0",), mean_dice=0.5)
    assert "class_weights" not in choice.to_json()
    assert choice.shares == {"a": 1.0}
    mixed = choice.model_copy(update={"class_weights": ((1.0, 1.0, 1.0),)})
    assert EnsembleChoice.parse(mixed.to_json(), file="x").shares == {"a": (1.0, 1.0, 1.0)}
