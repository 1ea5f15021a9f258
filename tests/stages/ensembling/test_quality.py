import numpy as np
import pytest

from autoseg.images.signs import ALL_SIGNS, SIGNS
from autoseg.stages.ensembling import HeldOut
from autoseg.stages.ensembling.quality import conformal_width, fit_quality, hear_voices
from autoseg.stages.predicting.quality import against_usual, predict_quality


def drawn(seed: int, count: int, noise: float = 0.02):
    """Cases whose Dice follows the expected one with a bias, as that of networks that are too sure."""
    rng = np.random.default_rng(seed)
    expected, volume = rng.uniform(0.6, 0.95, count), rng.uniform(3, 8, count)
    dice = np.clip(0.9 * expected - 0.05 + 0.01 * volume + rng.normal(0, noise, count), 0, 1)
    cases = [HeldOut(id=f"c{i}", group=f"p{i // 2}", fold=str(i // 2 % 5)) for i in range(count)]
    others = rng.normal(size=(6, count))  # signs that say nothing
    return cases, np.stack([expected, volume, *others], axis=1)[:, None], dice[:, None]


def test_the_conformal_quantile_counts_one_more_case():
    assert conformal_width(np.array([-9, 1, 2, 3, 4, 5, 6, 7, 8.0])) == 9  # ceil(10 * 0.9) = the ninth
    assert conformal_width(np.arange(1.0, 20)) == 18


def test_nine_in_ten_new_cases_are_inside_and_the_order_is_told():
    inside, total = 0, 0
    for seed in range(20):
        (model,) = fit_quality(["organ"], *drawn(seed, 60))
        assert model.spearman > 0.9
        _, signs, dice = drawn(1000 + seed, 100)
        for row, truth in zip(signs, dice[:, 0], strict=True):
            (score,) = predict_quality([model], ["organ"], row)
            inside += score.low <= truth <= score.high
            total += 1
    assert inside / total == pytest.approx(0.9, abs=0.03)


def test_the_bias_of_the_expected_dice_is_taken_out():
    (model,) = fit_quality(["organ"], *drawn(0, 200, noise=0.001))
    (score,) = predict_quality([model], ["organ"], np.array([[0.8, 5.0, *np.zeros(6)]]))
    assert score.dice == pytest.approx(0.9 * 0.8 - 0.05 + 0.05, abs=0.01)
    assert score.high - score.low < 0.03


def test_too_few_cases_or_one_patient_give_no_model():
    cases, signs, dice = drawn(0, 8)
    assert fit_quality(["organ"], cases, signs, dice) == ()
    cases, signs, dice = drawn(0, 20)
    alone = [HeldOut(id=case.id, group="p", fold="0") for case in cases]
    assert fit_quality(["organ"], alone, signs, dice) == ()
    dice[5:] = np.nan
    assert fit_quality(["organ"], cases, signs, dice) == ()


def test_networks_that_differ_in_how_sure_they_are_are_judged_against_their_own_usual():
    """Two folds as good as each other, one of them much less sure: raw, the signs rank fold against fold."""
    cases, signs, dice = drawn(0, 80)
    cases = [HeldOut(id=case.id, group=case.group, fold=str(place // 2 % 2)) for place, case in enumerate(cases)]
    signs = signs + np.array([0.0, 3.0])[[int(case.fold) for case in cases], None, None]
    voices = hear_voices(cases, signs)
    told = np.array([against_usual(row[None], (case.fold,), voices) for row, case in zip(signs, cases, strict=True)])
    for fold in "01":
        rows = told[[case.fold == fold for case in cases]]
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
    (model,) = fit_quality(["organ"], cases, told, dice)
    assert model.spearman > 0.9
    new = signs[[0, 2]]  # one case of each fold, as two folds would see one scan
    both = against_usual(new, ("0", "1"), voices)
    np.testing.assert_allclose(both, (told[0] + told[2]) / 2)
    np.testing.assert_allclose(against_usual(new, ("0", "all"), voices), told[0], err_msg="a fold unheard of")
    np.testing.assert_allclose(against_usual(new, ("0", "1"), ()), new.mean(axis=0), err_msg="an older file")


def steady_ones(seed: int, count: int):
    """Cases of which only the steadiness tells, among eight signs that are mere chance; few cases cannot bear these."""
    rng = np.random.default_rng(seed)
    stir = rng.normal(size=count)
    dice = np.clip(0.87 - 0.02 * stir + rng.normal(0, 0.03, count), 0, 1)
    signs = np.concatenate([rng.normal(size=(count, 8)), stir[:, None], rng.normal(size=(count, 5))], axis=1)
    cases = [HeldOut(id=f"c{i}", group=f"p{i}", fold=str(i % 5)) for i in range(count)]
    return cases, signs[:, None], dice[:, None]


def test_few_cases_are_told_by_the_few_signs_of_steadiness():
    weights = []
    for seed in range(10):
        (model,) = fit_quality(["organ"], *steady_ones(seed, 40))
        assert model.features == ALL_SIGNS
        weights.append(np.array(model.weights[1:]))
    assert sum((row[: len(SIGNS)] == 0).all() for row in weights) >= 5
    assert np.mean([row[ALL_SIGNS.index("stir")] for row in weights]) < -0.005


def test_an_older_model_is_asked_by_the_signs_that_it_knows():
    cases, signs, dice = drawn(0, 60)
    voices = hear_voices(cases, signs)
    told = np.array([against_usual(row[None], (case.fold,), voices) for row, case in zip(signs, cases, strict=True)])
    (model,) = fit_quality(["organ"], cases, told, dice)
    assert model.features == SIGNS
    more = np.concatenate([signs[0], np.full((1, 6), 9.0)], axis=1)
    np.testing.assert_array_equal(against_usual(more[None], ("0",), voices), told[0])


def test_the_surface_dice_stands_beside_the_dice():
    cases, signs, dice = drawn(0, 60)
    (first,) = fit_quality(["organ"], cases, signs, dice)
    (second,) = fit_quality(["organ"], cases, signs, dice / 2, figure="surface_dice")
    assert (first.figure, second.figure) == ("dice", "surface_dice")
    (both,) = predict_quality([first, second], ["organ"], signs[0])
    assert both.surface_dice == pytest.approx(both.dice / 2, abs=0.01)
    assert both.surface_low < both.surface_dice < both.surface_high
    (alone,) = predict_quality([first], ["organ"], signs[0])
    assert alone.surface_dice is None
    assert "figure" not in first.model_dump(), "what was stored before keeps its digest"
