import numpy as np
import pytest

from autoseg.records.choice import EnsembleChoice, PostprocessingStep
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling import HeldOut, choose_postprocessing, postprocessing
from autoseg.stages.ensembling.question import figure_row

LABELS = Labels(
    structures=(Structure(name="organ", value=1, original=1), Structure(name="vessel", value=2, original=2))
)
CHOICE = EnsembleChoice(plan="default", members=("a",), weights=(1.0,), folds=("0",), mean_dice=0.1, notes=("kept",))
CASES = tuple(HeldOut(id=f"case_{i:02}", group=f"p{i}", fold="0") for i in range(10))


def label_map(array: np.ndarray) -> LabelMap:
    return LabelMap(array, Grid(shape=array.shape, spacing_mm=(1, 1, 1)))


def truth_of(case: str) -> LabelMap:
    array = np.zeros((6, 14, 14), np.uint8)
    array[1:5, 1:6, 1:6] = 1
    array[2, 8:10, 1:3] = 2  # a vessel in two pieces of 4 voxels
    array[2, 12:14, 5:7] = 2
    return label_map(array)


def run(predictions, cases=CASES, metric="dice") -> EnsembleChoice:
    choice = CHOICE.model_copy(update={"metric": metric})
    return choose_postprocessing(choice, cases, LABELS, predictions=predictions, truth=truth_of)


def test_specks_of_the_organ_are_cleaned_and_the_two_pieces_of_the_vessel_stay():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[1:5, 9:13, 9:13] = 1  # a second organ, larger than any limit from the truth's pieces would drop
        array[1, 12:14, 5:7] = 0
        return label_map(array)

    choice = run(predicted)
    assert [(step.structure, step.kind) for step in choice.postprocessing] == [("organ", "keep_largest")]
    assert choice.mean_dice == 1
    assert choice.notes == ("kept",)
    assert CHOICE.postprocessing == ()


def test_small_pieces_of_the_vessel_are_dropped_by_a_volume_from_the_truth():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[5, 0, 13] = array[5, 13, 0] = 2
        return label_map(array)

    choice = run(predicted)
    assert choice.postprocessing == (PostprocessingStep(structure="vessel", kind="drop_below", value=4.0),)
    assert choice.mean_dice == 1


def test_holes_are_filled_after_the_pieces_are_cleaned():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[2:4, 3, 3] = 0
        array[5, 0, 13] = 1
        return label_map(array)

    choice = run(predicted)
    assert [step.kind for step in choice.postprocessing][-1] == "fill_holes"
    assert len(choice.postprocessing) == 2
    assert choice.mean_dice == 1


def test_what_helps_one_patient_in_ten_is_noise():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        if case == "case_04":
            array[1:5, 9:13, 9:13] = 1
        return label_map(array)

    choice = run(predicted)
    assert choice.postprocessing == ()
    assert choice.mean_dice < 1


def test_a_perfect_prediction_needs_no_cleaning():
    choice = run(truth_of)
    assert (choice.postprocessing, choice.mean_dice) == ((), 1.0)


def test_specks_of_an_absent_structure_are_dropped():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[5, 0, 13] = 2
        return label_map(array)

    def truth(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        if int(case[-2:]) % 2:
            array[array == 2] = 0
        return label_map(array)

    def predicted_with_absent(case: str) -> LabelMap:
        array = predicted(case).array.copy()
        if int(case[-2:]) % 2:
            array[2][array[2] == 2] = 0
        return label_map(array)

    choice = choose_postprocessing(CHOICE, CASES, LABELS, predictions=predicted_with_absent, truth=truth)
    assert [step.kind for step in choice.postprocessing] == ["drop_below"]
    assert choice.mean_dice == 1  # what is empty in both is left out, not failed


def test_too_few_patients_decide_nothing():
    choice = run(truth_of, cases=CASES[:4])
    assert choice.postprocessing == ()
    assert "fewer than 5 patients" in choice.notes[-1]


def test_another_grid_is_refused():
    with pytest.raises(DataError, match="case_00: the prediction lies on another grid"):
        run(lambda case: label_map(np.zeros((2, 14, 14), np.uint8)))


def test_a_step_that_helps_one_target_and_hurts_another_is_not_taken():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=2))
    labels = LABELS.model_copy(update={"regions": regions})

    def truth(case: str) -> LabelMap:
        array = np.zeros((6, 14, 14), np.uint8)
        array[1:5, 1:6, 1:6] = 1
        array[2, 2:4, 2:4] = 2
        array[4, 10, 10:12] = 2  # a small core, far off
        return label_map(array)

    def predicted(case: str) -> LabelMap:
        array = truth(case).array.copy()
        array[1:4, 9:13, 9:13] = 1  # found, with far too much around it
        return label_map(array)

    # Keeping the largest piece would help the whole, and lose the small core.
    choice = choose_postprocessing(CHOICE, CASES, labels, predictions=predicted, truth=truth)
    assert choice.postprocessing == ()


def test_cleaning_is_chosen_by_the_metric_that_chose_the_ensemble():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[2, 12:14, 5:7] = 0
        array[2, 11:14, 4:7] = 2  # the second piece, too large
        array[0, 0, 10:12] = 2  # and a false one, half as large as any piece of the truth
        return label_map(array)

    by_lesions = run(predicted, metric="lesion_f1")
    assert [(step.structure, step.kind) for step in by_lesions.postprocessing] == [("vessel", "drop_below")]
    assert by_lesions.metric == "lesion_f1"
    after = label_map(predicted("case_00").array * (np.indices((6, 14, 14))[0] > 0))
    counted = run(lambda case: after)
    assert by_lesions.mean_dice == pytest.approx(counted.mean_dice)  # Dice is told, whatever the metric


def test_a_step_that_helps_the_metric_of_one_structure_and_hurts_another_is_not_taken():
    def predicted(case: str) -> LabelMap:
        array = truth_of(case).array.copy()
        array[2, 3, 3] = 2  # a piece of vessel inside the organ: dropping it leaves a hole in the organ as it was
        return label_map(array)

    for metric in ("dice", "surface_dice", "mean_rank"):
        kinds = {step.structure for step in run(predicted, metric=metric).postprocessing}
        assert "organ" not in kinds or run(predicted, metric=metric).mean_dice == 1


def with_specks(case: str) -> LabelMap:
    array = truth_of(case).array.copy()
    array[5, 0, 13] = array[5, 13, 0] = 2
    array[1:5, 9:11, 9:11] = 1
    return label_map(array)


def test_a_step_computes_the_figures_of_its_own_structure_alone_and_they_are_the_same(monkeypatch):
    asked = []

    def noted(figure, case, labels, *, truth, prediction, targets=None):
        asked.append(targets)
        return figure_row(figure, case, labels, truth=truth, prediction=prediction, targets=targets)

    monkeypatch.setattr(postprocessing, "figure_row", noted)
    partly = run(with_specks, metric="mean_rank")
    assert {None, frozenset({"organ"}), frozenset({"vessel"})} == set(asked)

    def whole(reader, case, truth, array, *, cleaned, base):
        return postprocessing._figures(reader, case, truth, cleaned)

    monkeypatch.setattr(postprocessing, "_figures_after", whole)
    assert run(with_specks, metric="mean_rank") == partly
    assert partly.postprocessing


def test_what_was_computed_once_is_not_computed_for_a_part_of_the_cases(monkeypatch):
    known = {}
    choice = CHOICE.model_copy(update={"metric": "surface_dice"})

    def from_cases(cases):
        return choose_postprocessing(
            choice, cases, LABELS, predictions=with_specks, truth=truth_of, known=known
        ).postprocessing

    everything = from_cases(CASES)
    monkeypatch.setattr(postprocessing, "figure_row", lambda *words, **named: pytest.fail("computed again"))
    assert from_cases(CASES[:8]) == everything
