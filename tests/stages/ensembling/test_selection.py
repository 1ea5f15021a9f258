import math

import numpy as np
import pytest

from autoseg.records.choice import EnsembleChoice
from autoseg.records.dataset import Case, Channel, Dataset, Fold
from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling import Budget, HeldOut, ask, choose, held_out_cases
from autoseg.stages.ensembling.counting import undecided
from autoseg.stages.ensembling.question import scaled_ranks

LABELS = Labels(
    structures=(Structure(name="organ", value=1, original=1), Structure(name="tumour", value=2, original=2))
)
SHAPE = (4, 12, 12)
FOLDS = ("0", "1", "2", "3", "4")
CASES = tuple(HeldOut(id=f"case_{i:02}", group=f"p{i}", fold=str(i % 5)) for i in range(15))


def truth_of(case: str) -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    shift = int(case[-2:]) % 3
    array[1:3, 2 + shift : 8 + shift, 2:8] = 1
    array[1:3, 3 + shift : 6 + shift, 8:11] = 2
    return LabelMap(array, Grid(shape=SHAPE, spacing_mm=(1, 1, 1)))


class Candidates:
    """Probabilities that are the truth's, unsure where `noise` says, each candidate at its own voxels."""

    def __init__(self, noise: dict[str, float], *, copies: dict[str, str] | None = None):
        self.noise, self.copies, self.read = noise, copies or {}, 0

    def __call__(self, candidate: str, case: str) -> np.ndarray:
        self.read += 1
        name = self.copies.get(candidate, candidate)
        truth = truth_of(case).array
        right = np.stack([truth == value for value in range(3)]).astype(float)
        rng = np.random.default_rng([sum(name.encode()), int(case[-2:])])
        # A wrong voxel holds a random class for a little likelier than the right one: another candidate can mend it.
        wrong = rng.random(SHAPE) < self.noise[name]
        guess = np.eye(3)[rng.integers(0, 3, SHAPE)].transpose(3, 0, 1, 2)
        mixed = np.where(wrong, 0.45 * right + 0.55 * guess, 0.9 * right + 0.1 / 3)
        if name == "useless":
            mixed = guess  # sure of itself, and knows nothing
        return np.round(255 * mixed / mixed.sum(axis=0)).astype(np.uint8)


def run(probabilities: Candidates, names: tuple[str, ...], **changes) -> EnsembleChoice:
    candidates = changes.pop("candidates", {name: FOLDS for name in names})
    cases = changes.pop("cases", CASES)
    labels = changes.pop("labels", LABELS)
    metric = changes.pop("metric", "dice")
    question = ask(candidates, cases, labels, probabilities=probabilities, truth=truth_of, metric=metric)
    return choose(question, plan="default", **changes)


def test_two_that_mend_each_other_are_chosen_and_the_useless_one_is_not():
    choice = run(Candidates({"a": 0.25, "b": 0.25, "useless": 1.0}), ("a", "b", "useless"))
    assert set(choice.members) == {"a", "b"}
    assert sum(choice.weights) == pytest.approx(1)
    assert choice.folds == FOLDS
    singles = {candidate.members[0]: candidate for candidate in choice.candidates if candidate.step == 1}
    assert choice.mean_dice > max(single.mean_dice for single in singles.values()) + 0.02
    assert singles["useless"].mean_dice < singles["a"].mean_dice
    assert [candidate.chosen for candidate in choice.candidates].count(True) == 1
    assert all(candidate.because for candidate in choice.candidates)


def test_a_copy_of_the_best_adds_nothing():
    choice = run(Candidates({"a": 0.2}, copies={"b": "a"}), ("a", "b"))
    assert (choice.members, choice.weights) == (("a",), (1.0,))
    assert any("may be noise, stopped here" in candidate.because for candidate in choice.candidates)


def test_a_gain_in_a_single_patient_is_noise():
    class Twins(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            return super().__call__("b" if (candidate, case) == ("b", "case_03") else "a", case)

    choice = run(Twins({"a": 0.2, "b": 0.2}), ("a", "b"))
    # Together they are better in case_03, and there alone: a draw of patients without it shows no gain.
    assert len(choice.members) == 1
    (stopped,) = [candidate for candidate in choice.candidates if "stopped here" in candidate.because]
    assert stopped.mean_dice > choice.mean_dice
    assert "at least +0.0000" in stopped.because


def test_a_gain_from_too_few_patients_is_not_believed():
    cases = tuple(HeldOut(id=case.id, group=f"p{i % 4}", fold=case.fold) for i, case in enumerate(CASES))
    choice = run(Candidates({"a": 0.25, "b": 0.25}), ("a", "b"), cases=cases)
    assert len(choice.members) == 1
    assert "4 patients are too few" in choice.notes[-1]


def test_one_candidate_is_taken_after_one_look():
    probabilities = Candidates({"a": 0.2})
    choice = run(probabilities, ("a",))
    assert (choice.members, choice.weights) == (("a",), (1.0,))
    assert probabilities.read == len(CASES)
    assert choice.candidates[0].because == "the only candidate"
    assert 0 < choice.mean_dice < 1


def test_the_mean_dice_is_that_of_counting_by_hand():
    choice = run(Candidates({"a": 0.3}), ("a",))
    by_structure = []
    for value in (1, 2):
        dice = []
        for case in CASES:
            predicted = Candidates({"a": 0.3})("a", case.id).argmax(axis=0) == value
            truth = truth_of(case.id).array == value
            dice.append(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))
        by_structure.append(np.mean(dice))
    assert choice.mean_dice == pytest.approx(np.mean(by_structure))


def test_the_same_inputs_give_the_same_choice():
    first, second = (run(Candidates({"a": 0.25, "b": 0.3}), ("a", "b"), seed=3) for _ in range(2))
    assert first == second


def test_only_shared_cases_count_and_the_notes_say_so():
    candidates = {"a": FOLDS, "b": ("0", "1", "2")}
    choice = run(Candidates({"a": 0.25, "b": 0.25}), (), candidates=candidates)
    assert choice.notes[0] == "b was not trained for fold 3, 4."
    assert choice.notes[1] == "Chosen on the 9 of 15 cases that all compared candidates have predicted."
    assert set(choice.members) == {"a", "b"}
    assert choice.folds == ("0", "1", "2")


def test_a_candidate_without_a_case_in_common_is_kept_as_a_loser():
    candidates = {"a": ("0", "1"), "b": ("2",)}
    choice = run(Candidates({"a": 0.25, "b": 0.0}), (), candidates=candidates)
    assert choice.members == ("a",)
    (left,) = [candidate for candidate in choice.candidates if candidate.members == ("b",)]
    assert "cannot be compared" in left.because
    assert math.isnan(left.mean_dice)


def test_models_trained_on_everything_cannot_be_judged():
    with pytest.raises(UsageError, match="no candidate has predicted a held-out case"):
        run(Candidates({"a": 0.1}), (), candidates={"a": ("all",)})


def test_structures_that_nobody_annotated_do_not_count():
    class NoTumour(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            array = super().__call__(candidate, case)
            array[0], array[2] = np.maximum(array[0], array[2]), 0
            return array

    without = tuple(HeldOut(c.id, c.group, c.fold, annotated=("organ",)) for c in CASES)
    assert run(NoTumour({"a": 0.0}), ("a",), cases=without).mean_dice == 1
    assert run(NoTumour({"a": 0.0}), ("a",)).mean_dice == pytest.approx(0.5)


def test_regions_are_judged_one_by_one_at_a_half():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=2))
    labels = LABELS.model_copy(update={"regions": regions})

    class Regions(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            truth = truth_of(case).array
            core = np.where(truth == 2, 127 if candidate == "a" else 128, 0)
            return np.stack([np.where(truth > 0, 200, 100), core]).astype(np.uint8)

    assert run(Regions({}), ("a",), labels=labels).mean_dice == pytest.approx(0.5)  # 127 / 255 is below a half
    assert run(Regions({}), ("b",), labels=labels).mean_dice == 1


def test_leaving_out_sure_background_changes_no_argmax():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, SHAPE)
    parts = [Candidates({"a": 0.5})("a", "case_01"), Candidates({"b": 0.5})("b", "case_02")]
    found = undecided(truth.astype(np.uint8), parts, LABELS)
    voxels, kept = found.truth, found.parts
    mixed = parts[0].astype(int) + parts[1]
    assert len(voxels) < truth.size
    foreground = np.bincount(mixed.argmax(axis=0).ravel(), minlength=3)[1:]
    after = np.bincount((kept[0].astype(int) + kept[1]).argmax(axis=0), minlength=3)[1:]
    assert foreground.tolist() == after.tolist()


def test_ignored_voxels_are_left_out():
    labels = LABELS.model_copy(update={"ignore": 9})

    def truth(case: str) -> LabelMap:
        found = truth_of(case)
        array = found.array.copy()
        array[:, :, 8:] = 3  # where the tumour would be
        return LabelMap(array, found.grid)

    question = ask({"a": FOLDS}, CASES, labels, probabilities=Candidates({"a": 0.0}), truth=truth)
    choice = choose(question, plan="default")
    assert choice.mean_dice == 1


def test_probabilities_on_another_grid_are_refused():
    wrong = ask(
        {"a": FOLDS},
        CASES,
        LABELS,
        probabilities=lambda candidate, case: np.zeros((3, 2, 2, 2), np.uint8),
        truth=truth_of,
    )
    with pytest.raises(DataError, match=r"case_00: held-out probabilities have shape \(3, 2, 2, 2\), expected"):
        choose(wrong, plan="default")


class Frayed(Candidates):
    """`near` is wrong by one voxel along the edge, `far` by fewer voxels that lie far away."""

    def __call__(self, candidate: str, case: str) -> np.ndarray:
        array = truth_of(case).array.copy()
        if candidate == "near":
            array[:, 1:] = np.maximum(array[:, 1:], np.where(array[:, :-1] == 1, 1, 0))
        else:
            array[0, 11, 9:] = array[3, 11, 9:] = 1
        return np.stack([np.where(array == value, 255, 0) for value in range(3)]).astype(np.uint8)


def test_the_metric_decides_who_is_best():
    by_dice = run(Frayed({}), ("near", "far"))
    by_surface = run(Frayed({}), ("near", "far"), metric="surface_dice")
    (first,) = [item for item in by_dice.candidates if "best of the single" in item.because]
    assert (by_dice.metric, first.members) == ("dice", ("far",))
    assert (by_surface.metric, by_surface.members) == ("surface_dice", ("near",))
    singles = {item.members[0]: item for item in by_surface.candidates if item.step == 1}
    assert singles["near"].score == pytest.approx(1.0)  # nothing of its surface is 2 mm away
    assert singles["near"].mean_dice < singles["far"].mean_dice


def test_lesions_are_counted_where_they_are_asked_for():
    class Missing(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            array = truth_of(case).array.copy()
            if candidate == "extra":
                array[0, 0, 10:] = 2  # two voxels: next to nothing in Dice, a false lesion all the same
            else:
                array[1, :, 8:] = 0  # half of every tumour
            return np.stack([np.where(array == value, 255, 0) for value in range(3)]).astype(np.uint8)

    assert run(Missing({}), ("extra", "half")).members == ("extra",)
    choice = run(Missing({}), ("extra", "half"), metric="lesion_f1")
    assert choice.members == ("half",)
    assert {item.members[0]: round(item.score, 3) for item in choice.candidates if item.step == 1} == {
        "extra": round((1 + 2 / 3) / 2, 3),  # organ 1; tumour: one found, one false
        "half": 1.0,
    }


def test_ranks_are_the_share_of_the_others_that_are_beaten():
    scores = np.array([[0.9, 0.5, np.nan], [0.8, 0.5, np.nan], [0.7, 0.9, np.nan]])
    expected = [[1.0, 0.25, np.nan], [0.5, 0.25, np.nan], [0.0, 1.0, np.nan]]
    np.testing.assert_allclose(scaled_ranks(scores), expected)


def test_mean_rank_chooses_two_that_mend_each_other():
    choice = run(Candidates({"a": 0.25, "b": 0.25, "useless": 1.0}), ("a", "b", "useless"), metric="mean_rank")
    assert set(choice.members) == {"a", "b"}
    assert all(0 <= item.score <= 1 for item in choice.candidates)
    singles = {item.members[0]: item.score for item in choice.candidates if item.step == 1}
    assert singles["useless"] == pytest.approx(0.0)


def test_a_budget_leaves_out_what_costs_too_much_and_says_what_it_cost():
    candidates = Candidates({"a": 0.25, "b": 0.25, "slow": 0.0})
    seconds = {"a": 1.0, "b": 1.0, "slow": 9.0}
    free = run(candidates, ("a", "b", "slow"))
    assert (free.members, free.seconds_per_case) == (("slow",), None)
    both = run(candidates, ("a", "b", "slow"), budget=Budget(seconds, 2.0))
    assert (set(both.members), both.seconds_per_case) == ({"a", "b"}, 2.0)
    assert [item.because for item in both.candidates if item.members == ("slow",)] == [
        "takes 9 s a case, and the budget is 2"
    ]
    one = run(candidates, ("a", "b", "slow"), budget=Budget(seconds, 1.5))
    assert (len(one.members), one.seconds_per_case) == (1, 1.0)


def test_a_budget_below_the_cheapest_is_refused_with_its_price():
    with pytest.raises(UsageError, match=r"no candidate takes less than 0\.5 seconds a case; the cheapest, a, takes 1"):
        run(Candidates({"a": 0.2}), ("a",), budget=Budget({"a": 1.0}, 0.5))


def test_the_cases_that_chose_are_the_only_ones_that_count():
    class Split(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            good = (candidate == "a") == (int(case[-2:]) < 8)
            return Candidates({"x": 0.05 if good else 0.6})("x", case)

    first = run(Split({}), ("a", "b"), rows=range(8))
    second = run(Split({}), ("a", "b"), rows=range(8, 15))
    assert (first.members, second.members) == (("a",), ("b",))


def test_each_case_is_judged_in_the_fold_that_holds_it_out():
    dataset = Dataset(
        name="d",
        source="/data",
        layout="nnunet",
        channels=(Channel(name="ct", kind="ct"),),
        labels=LABELS,
        cases=(
            Case(id="a", group="p", images={}, annotated=("organ",)),
            Case(id="b", group="q", images={}),
            Case(id="c", group="q", images={}),
        ),
        folds=(
            Fold(name="0", training=("b",), held_out=("a",)),
            Fold(name="1", training=("a",), held_out=("b",)),
            Fold(name="all", training=("a", "b", "c"), held_out=()),
        ),
        grouping="by name",
    )
    assert held_out_cases(dataset) == (HeldOut("a", "p", "0", ("organ",)), HeldOut("b", "q", "1"))
