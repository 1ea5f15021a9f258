import math

import numpy as np
import pytest

from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.results import EnsembleChoice
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling import HeldOut, choose
from autoseg.stages.ensembling.counting import undecided

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
    return choose(candidates, cases, labels, probabilities=probabilities, truth=truth_of, plan="default", **changes)


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
    class One(Candidates):
        def __call__(self, candidate: str, case: str) -> np.ndarray:
            name = "perfect" if candidate == "lucky" and case == "case_03" else "a"
            return super().__call__(name, case)

    choice = run(One({"a": 0.2, "perfect": 0.0}), ("a", "lucky"))
    # Lucky is best alone, but adding either to it shows no gain that another draw of patients would confirm.
    assert choice.members == ("lucky",)
    (stopped,) = [candidate for candidate in choice.candidates if "stopped here" in candidate.because]
    assert "at least" in stopped.because


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
    voxels, kept = undecided(truth.astype(np.uint8), parts, LABELS)
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

    choice = choose({"a": FOLDS}, CASES, labels, probabilities=Candidates({"a": 0.0}), truth=truth, plan="default")
    assert choice.mean_dice == 1


def test_probabilities_on_another_grid_are_refused():
    with pytest.raises(DataError, match=r"case_00: held-out probabilities have shape \(3, 2, 2, 2\), expected"):
        choose(
            {"a": FOLDS},
            CASES,
            LABELS,
            probabilities=lambda candidate, case: np.zeros((3, 2, 2, 2), np.uint8),
            truth=truth_of,
            plan="default",
        )
