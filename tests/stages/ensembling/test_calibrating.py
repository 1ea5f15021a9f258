import numpy as np
import pytest

from autoseg.records.choice import EnsembleChoice
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.ensembling import HeldOut, calibrate
from autoseg.stages.ensembling.calibrating import tempered

LABELS = Labels(
    structures=(Structure(name="organ", value=1, original=1), Structure(name="tumour", value=2, original=2))
)
SHAPE = (8, 20, 20)
GRID = Grid(shape=SHAPE, spacing_mm=(1, 1, 1))
CASES = tuple(HeldOut(id=f"case_{i}", group=f"p{i}", fold="0") for i in range(6))
CHOICE = EnsembleChoice(plan="default", members=("a",), weights=(1.0,), folds=("0",), mean_dice=0.5)


def scene(case: str, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """A truth drawn from probabilities, and what a model says that is too sure of them by `temperature`."""
    rng = np.random.default_rng(int(case[-1]))
    logits = rng.normal(0, 1.0, (3, *SHAPE))
    logits[0] -= 4  # nowhere is background likely, so that no voxel is left out and the fit is fair
    right = np.exp(logits) / np.exp(logits).sum(axis=0)
    drawn = (rng.random(SHAPE) > np.cumsum(right, axis=0)).sum(axis=0).astype(np.uint8)
    said = np.exp(logits * temperature)
    return drawn, np.round(255 * said / said.sum(axis=0)).astype(np.uint8)


def run(temperature: float, cases=CASES):
    return calibrate(
        CHOICE,
        cases,
        LABELS,
        probabilities=lambda name, case: scene(case, temperature)[1],
        truth=lambda case: LabelMap(scene(case, temperature)[0], GRID),
    )


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found(temperature):
    found = run(temperature)
    assert found.temperature == pytest.approx(temperature, rel=0.1)  # 8 bits round small probabilities
    assert found.nll_after <= found.nll_before
    assert (found.cases, found.voxels) == (6, 6 * 3200)


def test_a_model_that_is_too_sure_errs_less_after_it():
    found = run(2.0)
    assert found.error_after < 0.5 * found.error_before


def test_the_bins_are_the_reliability_curve():
    found = run(2.0)
    sure = found.bins_before[-1]
    assert sum(item.voxels for item in found.bins_before) == found.voxels
    assert sure.confidence > sure.accuracy + 0.02  # said more than was true
    weighted = sum(item.voxels * abs(item.confidence - item.accuracy) for item in found.bins_after) / found.voxels
    assert weighted == pytest.approx(found.error_after)
    assert [item.confidence for item in found.bins_after] == sorted(item.confidence for item in found.bins_after)


def test_cases_that_were_annotated_in_part_tell_nothing():
    partly = tuple(HeldOut(case.id, case.group, case.fold, annotated=("organ",)) for case in CASES)
    assert run(1.5, cases=partly) is None
    assert run(1.5, cases=(*partly[:3], *CASES[3:])).cases == 3


def test_voxels_that_the_truth_ignores_are_left_out():
    labels = Labels(structures=LABELS.structures[:1], ignore=9)  # inside, 2 is what is ignored
    nothing = calibrate(
        CHOICE,
        CASES,
        labels,
        probabilities=lambda name, case: scene(case, 1.0)[1][:2],
        truth=lambda case: LabelMap(np.full(SHAPE, 2, np.uint8), GRID),
    )
    assert nothing is None


def test_regions_are_tempered_one_by_one():
    parts = np.array([[[204], [51]]], np.uint8)  # 0.8 and 0.2
    softer = tempered(parts, np.array([1.0]), 2.0, regions=True)
    np.testing.assert_allclose(softer.ravel(), [2 / 3, 1 / 3], atol=1e-6)  # odds of 4 become 2


def test_regions_that_are_wrong_more_often_than_they_say_are_cooled():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=2))

    def said(name: str, case: str) -> np.ndarray:
        drawn = scene(case, 1.0)[0]
        wrong = np.random.default_rng(1).random((2, *SHAPE)) < 0.2
        return np.where(np.stack([drawn >= 1, drawn == 2]) ^ wrong, 253, 2).astype(np.uint8)

    found = calibrate(
        CHOICE,
        CASES,
        LABELS.model_copy(update={"regions": regions}),
        probabilities=said,
        truth=lambda case: LabelMap(scene(case, 1.0)[0], GRID),
    )
    # One in five is wrong, and it says one in a hundred: the logarithm of the odds is 4.8 and should be 1.4.
    assert found.temperature == pytest.approx(4.8 / 1.4, rel=0.1)
