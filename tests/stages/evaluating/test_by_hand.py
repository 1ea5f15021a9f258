import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.records.evaluation import StructureScore
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.metrics import FAMILIES, METRICS, NAMES, Scoring
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating import missing, score
from tests.stages.evaluating.six_masks import BY_HAND, CUBE, EMPTY, PAIRS

LABELS = Labels(structures=(Structure(name="cube", value=1, original=1),))
ALL = Scoring(families=frozenset(FAMILIES), tolerances_mm={"cube": 0.5})


def scored(
    truth: np.ndarray, prediction: np.ndarray, *, mm: tuple[float, float, float] = (1, 1, 1), scoring: Scoring = ALL
) -> StructureScore:
    grid = Grid(shape=truth.shape, spacing_mm=mm)
    maps = (LabelMap(mask.astype(np.uint8), grid) for mask in (truth, prediction))
    return score("case", LABELS, *maps, scoring=scoring).structures[0]


@pytest.mark.parametrize("name", PAIRS)
def test_every_figure_is_the_one_on_paper(name: str):
    found = scored(*PAIRS[name]).figures()
    assert found == pytest.approx(BY_HAND[name] | {"surface_dice_tolerance_mm": 0.5}, nan_ok=True)
    assert tuple(found) == NAMES


def test_a_missing_prediction_scores_as_an_empty_one():
    truth = LabelMap(CUBE.astype(np.uint8), Grid(shape=CUBE.shape, spacing_mm=(1, 1, 1)))
    assert missing("case", LABELS, truth, scoring=ALL).structures[0] == scored(CUBE, EMPTY)


def test_both_empty_is_nothing_to_score():
    found = scored(EMPTY, EMPTY).figures()
    amounts = {"truth_ml", "predicted_ml", "volume_difference_ml"} | {
        name for name in NAMES if name.endswith("lesions")
    }
    amounts |= {name for name in NAMES if name.endswith(("_found", "_false_positives"))}
    for name, value in found.items():
        if name != "surface_dice_tolerance_mm":
            assert value == 0 if name in amounts else math.isnan(value), name


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_was_asked_for_is_computed(family: str):
    found = scored(*PAIRS["moved by one voxel along x"], scoring=Scoring(families=frozenset({family}))).figures()
    there = {name for name, value in found.items() if not math.isnan(value)} - {"surface_dice_tolerance_mm"}
    wanted = {metric.name for metric in METRICS if metric.family in {family, "overlap"}}
    assert there == wanted - {"surface_dice_tolerance_mm"}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1.0, 1.0, 1.0), (3.0, 0.5, 2.0)]), st.sampled_from([0.1, 4.0]))
def test_lengths_and_volumes_grow_with_the_voxel_and_shares_do_not(
    seed: int, mm: tuple[float, float, float], factor: float
):
    truth, prediction = np.random.default_rng(seed).random((2, 4, 5, 6)) < 0.4
    scoring = Scoring(families=frozenset(FAMILIES), tolerance_mm=1.0)
    larger = Scoring(families=frozenset(FAMILIES), tolerance_mm=factor)
    near = scored(truth, prediction, mm=mm, scoring=scoring).figures()
    far = scored(truth, prediction, mm=tuple(factor * x for x in mm), scoring=larger).figures()
    power = {"mm": 1, "ml": 3, "": 0}
    for metric in METRICS:
        if not metric.name.startswith("small"):
            assert far[metric.name] == pytest.approx(near[metric.name] * factor ** power[metric.unit], rel=1e-6)
        if metric.unit == "" and metric.better == "higher":
            assert 0 <= near[metric.name] <= 1


def ball(radius: float, mm: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius**2


@pytest.mark.parametrize("mm", [(1.0, 1.0, 1.0), (2.0, 0.7, 0.9)])
def test_balls_within_each_other_agree_with_geometry(mm: tuple[float, float, float]):
    shape = tuple(int(46 / s) for s in mm)
    found = scored(ball(20, mm, shape), ball(14, mm, shape), mm=mm)
    volumes = [4 / 3 * math.pi * r**3 / 1000 for r in (20, 14)]
    assert (found.truth_ml, found.predicted_ml) == (
        pytest.approx(volumes[0], rel=0.02),
        pytest.approx(volumes[1], rel=0.02),
    )
    assert found.dice == pytest.approx(2 * 14**3 / (20**3 + 14**3), abs=0.01)
    assert (found.precision, found.recall) == (1, pytest.approx((14 / 20) ** 3, abs=0.01))
    assert found.hd_mm == pytest.approx(6, abs=max(mm))
    # Slice by slice: two discs of r^2 = 20^2 - z^2 and 14^2 - z^2; beyond 14 mm there is only the outer one.
    z = np.linspace(-20, 20, 4001)
    inner = np.clip(14**2 - z**2, 0, None)
    assert found.slice_dice == pytest.approx((2 * inner / (20**2 - z**2 + inner + 1e-9)).mean(), abs=0.03)


def test_lesions_know_where_they_lie():
    grid = Grid(shape=(10, 10, 10), spacing_mm=(2, 1, 1), origin_mm=(100, 0, -5))
    truth, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    truth[0:2, 1:3, 8:10] = 1
    prediction[8:10, 8:10, 0:2] = 1
    (found,) = score("case", LABELS, LabelMap(truth, grid), LabelMap(prediction, grid), scoring=ALL).structures
    missed, spurious = found.lesions.details
    assert (missed.kind, missed.centre_mm, missed.place) == ("missed", (108.5, 1.5, -4.0), "left anterior inferior")
    assert (spurious.kind, spurious.centre_mm, spurious.place) == (
        "false_positive",
        (100.5, 8.5, 12.0),
        "right posterior superior",
    )
    assert missed.volume_ml == pytest.approx(0.016)
    assert missed.diameter_mm == pytest.approx((6 * 16 / math.pi) ** (1 / 3))
