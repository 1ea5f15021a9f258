import numpy as np
import pytest

from autoseg.stages.ensembling import HeldOut
from autoseg.stages.ensembling.quality import conformal_width, fit_quality, predict_quality


def drawn(seed: int, count: int, noise: float = 0.02):
    """Cases whose Dice follows the expected one with a bias, as that of networks that are too sure."""
    rng = np.random.default_rng(seed)
    expected, volume = rng.uniform(0.6, 0.95, count), rng.uniform(3, 8, count)
    dice = np.clip(0.9 * expected - 0.05 + 0.01 * volume + rng.normal(0, noise, count), 0, 1)
    cases = [HeldOut(id=f"c{i}", group=f"p{i // 2}", fold=str(i // 2 % 5)) for i in range(count)]
    return cases, np.stack([expected, volume], axis=1)[:, None], dice[:, None]


def test_the_conformal_quantile_counts_one_more_case():
    assert conformal_width(np.array([-9, 1, 2, 3, 4, 5, 6, 7, 8.0])) == 9  # ceil(10 * 0.9) = the ninth
    assert conformal_width(np.arange(1.0, 20)) == 18


def test_nine_in_ten_new_cases_are_inside_and_the_order_is_told():
    inside, total = 0, 0
    for seed in range(20):
        (model,) = fit_quality(["organ"], *drawn(seed, 60))
        assert model.spearman > 0.9
        _, features, dice = drawn(1000 + seed, 100)
        for row, truth in zip(features, dice[:, 0], strict=True):
            (score,) = predict_quality([model], ["organ"], row)
            inside += score.low <= truth <= score.high
            total += 1
    assert inside / total == pytest.approx(0.9, abs=0.03)


def test_the_bias_of_the_expected_dice_is_taken_out():
    (model,) = fit_quality(["organ"], *drawn(0, 200, noise=0.001))
    (score,) = predict_quality([model], ["organ"], np.array([[0.8, 5.0]]))
    assert score.dice == pytest.approx(0.9 * 0.8 - 0.05 + 0.05, abs=0.01)
    assert score.high - score.low < 0.03


def test_too_few_cases_or_one_patient_give_no_model():
    cases, features, dice = drawn(0, 8)
    assert fit_quality(["organ"], cases, features, dice) == ()
    cases, features, dice = drawn(0, 20)
    alone = [HeldOut(id=case.id, group="p", fold="0") for case in cases]
    assert fit_quality(["organ"], alone, features, dice) == ()
    dice[5:] = np.nan
    assert fit_quality(["organ"], cases, features, dice) == ()
