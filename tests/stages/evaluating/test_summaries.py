import math

import numpy as np
import pytest

from autoseg.records.dataset import Case, Channel, Dataset
from autoseg.records.errors import DataError, UsageError
from autoseg.records.evaluation import CaseScore, Evaluation, LesionDetail, LesionScore
from autoseg.records.labels import Labels, Structure
from autoseg.records.metrics import usual_tolerance_mm
from autoseg.stages.evaluating import by_attribute, by_lesion_count, by_lesion_place, scores_of, summarise, values_by
from autoseg.stages.evaluating.statistics import _weighted_medians, bootstrap_interval, bootstrap_ratio
from autoseg.stages.evaluating.tolerances import check_tolerances, read_tolerances
from tests.stages.evaluating.test_tables import structure

INF = math.inf


def lesioned(found: int, lesions: int, spurious: int, *, small: tuple[int, int] = (0, 0)) -> LesionScore:
    details = [("found", "left anterior superior")] * found
    details += [("missed", "right anterior superior")] * (lesions - found)
    details += [("false_positive", "right anterior superior")] * spurious
    return LesionScore(
        lesions=lesions,
        found=found,
        false_positives=spurious,
        small_lesions=small[1],
        small_found=small[0],
        small_false_positives=0,
        sensitivity=found / lesions if lesions else math.nan,
        precision=1.0,
        lesion_dice=0.5,
        panoptic_quality=0.5,
        segmentation_quality=0.5,
        recognition_quality=1.0,
        details=tuple(
            LesionDetail(kind=kind, centre_mm=(0, 0, 0), place=place, volume_ml=1, diameter_mm=12, dice=0)
            for kind, place in details
        ),
    )


def evaluation(dice: list[float], lesions: list[LesionScore] | None = None) -> Evaluation:
    counted = lesions or [None] * len(dice)
    items = [structure("metastasis", value, hd95_mm=INF if value == 0 else 1.0) for value in dice]
    scores = [
        CaseScore(case=f"c{i}", structures=(item.model_copy(update={"lesions": one}),))
        for i, (item, one) in enumerate(zip(items, counted, strict=True))
    ]
    return Evaluation(members=("m",), scores=tuple(scores))


def test_a_median_and_its_interval_hold_infinite_distances():
    values = np.array([1.0, 1.0, 2.0, 3.0, INF, INF])
    assert bootstrap_interval(values, list("abcdef"), key="x", statistic="median") == (1.0, INF)
    (row,) = summarise(evaluation([0.5, 0.6, 0.7, 0.8, 0.0]))
    assert (row.hd95_mm_median, row.failed) == (1.0, 1)
    low, high = row.intervals["dice_mean"]
    assert low < row.dice_mean < high


def test_the_weighted_median_is_that_of_the_repeated_values():
    rng = np.random.default_rng(0)
    values, weights = rng.random(9), rng.integers(0, 4, (20, 9))
    wanted = [np.median(np.repeat(values, row)) for row in weights]
    np.testing.assert_allclose(_weighted_medians(values, weights), wanted)


def test_patients_are_drawn_and_not_cases():
    dice = [0.9, 0.9, 0.9, 0.5, 0.5, 0.5] * 4
    own = summarise(evaluation(dice))[0].intervals["dice_mean"]
    shared = summarise(evaluation(dice), {f"c{i}": f"p{i // 3}" for i in range(24)})[0].intervals["dice_mean"]
    assert shared[1] - shared[0] > 1.4 * (own[1] - own[0])
    assert summarise(evaluation(dice), {f"c{i}": f"p{i // 6}" for i in range(24)})[0].intervals == {}


def test_lesions_are_pooled_over_cases():
    counted = [lesioned(1, 2, 3), lesioned(7, 8, 0, small=(1, 2)), lesioned(0, 0, 3)]
    (row,) = summarise(evaluation([0.5, 0.5, 0.5], counted))
    assert (row.lesions, row.lesion_sensitivity) == (10, 0.8)
    assert (row.small_lesion_sensitivity, row.large_lesion_sensitivity) == (0.5, 7 / 8)
    assert row.lesion_precision == pytest.approx(8 / 14)
    assert row.false_positives_per_case == 2
    assert row.intervals == {}  # three patients
    five = summarise(evaluation([0.5] * 5, [*counted, lesioned(1, 1, 0), lesioned(1, 1, 1)]))[0]
    assert set(five.intervals) >= {"lesion_sensitivity", "lesion_precision", "false_positives_per_case"}
    low, high = five.intervals["lesion_sensitivity"]
    assert 0.5 <= low < five.lesion_sensitivity < high <= 1


def test_the_interval_of_a_ratio_is_that_of_equal_cases():
    parts, patients = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]), list("abcdef")
    assert bootstrap_ratio(parts, np.ones(6), patients, key="x") == bootstrap_interval(parts, patients, key="x")
    assert bootstrap_ratio(np.zeros(6), np.zeros(6), patients, key="x") is None
    assert bootstrap_ratio(parts[:4], np.ones(4), patients[:4], key="x") is None


def test_success_of_structures_and_of_cases():
    item = structure("organ", 0.9)
    case = CaseScore(case="a", structures=(item, structure("tumour", 0.6)))
    other = CaseScore(case="b", structures=(item, structure("tumour", math.nan)))
    found = scores_of(Evaluation(members=("m",), scores=(case, other)), {}, {}, success_dice=0.7)
    assert [row.success_fraction for row in found.structures] == [1.0, 0.0]
    assert found.success_fraction == 0.5


def test_parts_of_the_cases():
    scored = evaluation([0.9, 0.7, 0.5], [lesioned(1, 1, 0), lesioned(2, 3, 1), lesioned(0, 0, 1)])
    parts = by_attribute(scored, "site", {"c0": "Basel", "c2": "Aarau"})
    assert [(part.value, part.cases, part.structures[0].dice_mean) for part in parts] == [
        ("Aarau", 1, 0.5),
        ("Basel", 1, 0.9),
        ("(not stated)", 1, 0.7),
    ]
    assert [(part.value, part.structures[0].dice_mean) for part in by_lesion_count(scored)] == [
        ("0", 0.5),
        ("1", 0.9),
        ("2-4", 0.7),
    ]
    left, right = by_lesion_place(scored)
    assert (left.place, left.lesions, left.sensitivity) == ("left anterior superior", 3, 1.0)
    assert (right.lesions, right.found, right.false_positives, right.sensitivity) == (1, 0, 2, 0.0)


def test_an_attribute_that_nobody_has():
    labels = Labels(structures=(Structure(name="organ", value=1, original=1),))
    case = Case(id="a", group="a", images={}, attributes={"scanner": "A"})
    data = Dataset(
        name="D",
        source="",
        layout="nnunet",
        channels=(Channel(name="CT", kind="ct"),),
        labels=labels,
        cases=(case,),
        folds=(),
        grouping="",
    )
    assert values_by(data, "scanner") == {"a": "A"}
    with pytest.raises(UsageError, match=r"attribute 'site'\. There are: scanner, lesion_count, lesion_place"):
        values_by(data, "site")
    with pytest.raises(UsageError, match="--by site needs a data set"):
        values_by(None, "site")


@pytest.mark.parametrize(
    ("structure", "dataset", "layout", "mm"),
    [
        ("liver", "Dataset501", "nnunet", 2.0),
        ("liver", "Total", "totalsegmentator", 3.0),
        ("Metastasis", "Brain", "nnunet", 1.0),
        ("core", "BrainMets", "nnunet", 1.0),
        ("enhancing", "BraTS-METS", "nnunet", 1.0),
        ("metsovo", "Geometsy", "nnunet", 2.0),
    ],
)
def test_the_usual_tolerances(structure: str, dataset: str, layout: str, mm: float):
    assert usual_tolerance_mm(structure, dataset=dataset, layout=layout) == mm


def test_a_table_of_tolerances(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('\ufeffstructure,tolerance_mm\nliver, 1.5\n\n"a, b",0\n')
    assert read_tolerances(file) == {"liver": 1.5, "a, b": 0.0}
    labels = Labels(structures=(Structure(name="liver", value=1, original=1),))
    with pytest.raises(DataError, match=r"'a, b', which is no structure here\. There are: liver"):
        check_tolerances(read_tolerances(file), labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no table of tolerances"),
        ("name,mm\nliver,1\n", "is no table of tolerances"),
        ("structure,tolerance_mm\nliver\n", "row 2 is 'liver'"),
        ("structure,tolerance_mm\nliver,wide\n", "row 2 is 'liver,wide'"),
        ("structure,tolerance_mm\nliver,-1\n", "the tolerance of 'liver' is -1"),
        ("structure,tolerance_mm\nliver,nan\n", "the tolerance of 'liver' is nan"),
        ("structure,tolerance_mm\nliver,1\nliver,2\n", "'liver' stands there twice"),
    ],
)
def test_a_table_that_is_none(tmp_path, text: str, words: str):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_tolerances(tmp_path / "t.csv")
    assert "t.csv" in str(caught.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_tolerances(tmp_path / "t.csv")
