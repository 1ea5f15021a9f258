import json
import math

import numpy as np
import pytest

from autoseg.records.errors import DataError
from autoseg.records.evaluation import CaseScore, StructureScore
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.metrics import FAMILIES, Scoring
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating import missing, score

LABELS = Labels(
    structures=(Structure(name="organ", value=1, original=1), Structure(name="tumour", value=2, original=5))
)

ALL = Scoring(families=frozenset(FAMILIES))
LESIONS = Scoring(families=frozenset({"surfaces", "lesions"}))


def label_map(values: np.ndarray | list, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> LabelMap:
    array = np.asarray(values, np.uint8)
    return LabelMap(array, Grid(shape=array.shape, spacing_mm=spacing, origin_mm=origin))


def row(*values: int) -> LabelMap:
    return label_map([[values]])


def test_two_structures_on_a_row():
    truth, prediction = row(1, 1, 1, 1, 0, 2, 2, 0), row(0, 1, 1, 0, 0, 2, 2, 2)
    organ, tumour = score("case_1", LABELS, truth, prediction).structures
    assert (organ.structure, tumour.structure) == ("organ", "tumour")
    assert organ.dice == pytest.approx(2 * 2 / (4 + 2))
    assert (organ.precision, organ.recall) == (1.0, 0.5)
    assert tumour.dice == pytest.approx(2 * 2 / (2 + 3))
    assert organ.truth_ml == pytest.approx(0.004)
    assert tumour.predicted_ml == pytest.approx(0.003)


def test_both_empty_is_nothing_to_score_and_one_empty_is_a_failure():
    organ, tumour = score("case_1", LABELS, row(1, 1, 0), row(0, 0, 0)).structures
    assert (organ.dice, organ.surface_dice, organ.hd95_mm) == (0, 0, math.inf)
    assert math.isnan(tumour.dice)
    assert math.isnan(tumour.hd95_mm)
    assert tumour.truth_ml == 0


def test_a_case_without_prediction_fails_what_its_truth_holds():
    result = missing("case_1", LABELS, row(1, 1, 0))
    organ, tumour = result.structures
    assert result.missing
    assert (organ.dice, organ.hd95_mm) == (0, math.inf)
    assert math.isnan(tumour.dice)


def test_what_nobody_annotated_is_not_scored():
    organ, tumour = score("case_1", LABELS, row(1, 0, 0), row(1, 2, 2), annotated=("organ",)).structures
    assert organ.dice == 1
    assert all(math.isnan(value) for value in (tumour.dice, tumour.hd95_mm, tumour.truth_ml, tumour.predicted_ml))


def test_ignored_voxels_are_left_out_of_both():
    labels = LABELS.model_copy(update={"ignore": 9})  # 3 inside
    organ, _ = score("case_1", labels, row(1, 1, 3, 3, 0), row(1, 1, 1, 2, 0)).structures
    assert (organ.dice, organ.predicted_ml) == (1, pytest.approx(0.002))


def test_regions_are_scored_in_place_of_structures():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=5))
    labels = LABELS.model_copy(update={"regions": regions})
    whole, core = score("case_1", labels, row(1, 2, 2, 0), row(1, 1, 2, 0)).structures
    assert whole.dice == 1
    assert core.dice == pytest.approx(2 / 3)
    whole, core = score("case_1", labels, row(1, 2), row(1, 2), annotated=("tumour",)).structures
    assert math.isnan(whole.dice)
    assert core.dice == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (label_map(np.ones((4, 4, 4)), spacing=(5.0, 1.0, 1.0)), r"spacing \(5, 1, 1\) mm instead of \(1, 1, 1\)"),
        (label_map(np.ones((1, 4, 4))), r"shape \(1, 4, 4\) instead of \(4, 4, 4\)"),
        (label_map(np.ones((4, 4, 4)), origin=(9.0, 0.0, 0.0)), "origin"),
        (
            LabelMap(
                np.ones((4, 4, 4), np.uint8),
                Grid(shape=(4, 4, 4), spacing_mm=(1, 1, 1), direction=((-1, 0, 0), (0, 1, 0), (0, 0, 1))),
            ),
            "direction",
        ),
    ],
)
def test_another_geometry_is_refused_with_both_grids(other: LabelMap, words: str):
    with pytest.raises(DataError, match=words) as caught:
        score("case_1", LABELS, label_map(np.ones((4, 4, 4))), other)
    message = str(caught.value)
    assert message.startswith("case_1: the prediction lies on another grid")
    assert "Prediction: shape" in message
    assert "Truth: shape (4, 4, 4), spacing (1, 1, 1) mm" in message


def test_an_array_that_does_not_fit_its_own_grid_is_refused():
    truth = label_map(np.ones((4, 4, 4)))
    with pytest.raises(DataError, match="shape"):
        score("case_1", LABELS, truth, LabelMap(np.ones((1, 4, 4), np.uint8), truth.grid))


def test_a_structure_in_one_slice_of_a_volume_is_measured_in_space():
    truth, prediction = np.zeros((5, 20, 20)), np.zeros((5, 20, 20))
    truth[2, 5:15, 5:15] = 1
    prediction[2, 5:15, 5:15] = 1
    prediction[0, 0, 0] = 2
    organ, tumour = score("case_1", LABELS, label_map(truth), label_map(prediction)).structures
    assert (organ.hd95_mm, organ.surface_dice) == (0, 1)
    assert tumour.hd95_mm == math.inf


def test_crops_do_not_change_the_figures():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, 6, 7, 8))
    small = score("case_1", LABELS, label_map(truth), label_map(prediction))
    large = score("case_1", LABELS, label_map(np.pad(truth, 9)), label_map(np.pad(prediction, 9)))
    # Only specificity knows how much there is around: every voxel outside the truth that was left alone counts.
    outside = {"specificity": 0.0}
    assert [item.model_copy(update=outside) for item in small.structures] == [
        item.model_copy(update=outside) for item in large.structures
    ]
    assert all(a.specificity < b.specificity for a, b in zip(small.structures, large.structures, strict=True))


def test_the_mean_distance_is_always_there_and_lesions_when_asked():
    truth, prediction = np.zeros((10, 10, 10)), np.zeros((10, 10, 10))
    truth[1:3, 1:3, 1:3] = truth[6:8, 6:8, 6:8] = 1  # two lesions
    prediction[1:3, 1:3, 1:3] = prediction[1:3, 6:8, 1:3] = 1  # one found, one spurious
    maps = label_map(truth), label_map(prediction)
    organ, tumour = score("case_1", LABELS, *maps).structures
    assert organ.assd_mm > 0
    assert math.isnan(organ.lesion_f1)
    assert math.isnan(tumour.assd_mm)
    organ, tumour = score("case_1", LABELS, *maps, scoring=LESIONS).structures
    assert organ.lesion_f1 == 0.5
    assert math.isnan(tumour.lesion_f1)
    organ, _ = missing("case_1", LABELS, maps[0], scoring=LESIONS).structures
    assert (organ.lesion_f1, organ.assd_mm) == (0, math.inf)


def test_a_plane_moved_by_two_slices_lies_two_slices_away():
    truth, prediction = np.zeros((9, 3, 3)), np.zeros((9, 3, 3))
    truth[2], prediction[4] = 1, 1
    organ, _ = score(
        "case_1", LABELS, label_map(truth, spacing=(3, 50, 50)), label_map(prediction, spacing=(3, 50, 50))
    ).structures
    # Both slabs have a face that lies 6 mm off and one that lies 3 mm off; their sides add a little.
    assert 3 < organ.assd_mm < 6


def test_scores_from_before_these_figures_can_still_be_read():
    found = score("case_1", LABELS, row(1, 1, 0), row(1, 0, 0))
    content = found.model_dump(mode="json")
    for item in content["structures"]:
        for name, field in StructureScore.model_fields.items():
            if not field.is_required():
                del item[name]
    old = CaseScore.parse(json.dumps(content), file="evaluation.json")
    assert old.structures[0].dice == found.structures[0].dice
    assert math.isnan(old.structures[0].assd_mm)
    assert math.isnan(old.structures[0].figures()["lesions_found"])
