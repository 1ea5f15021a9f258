import pytest

from autoseg.records.errors import UsageError
from autoseg.records.preset import Augmentation, PlanningPreset
from autoseg.stages.planning import rules
from tests.stages.planning.examples import fingerprint


def test_the_target_spacing_is_the_median():
    facts = [((30, 40, 50), (float(z), 1.0, 1.0)) for z in (1, 2, 2, 3, 9)]
    assert rules.target_spacing(fingerprint(facts=facts)).value == (2.0, 1.0, 1.0)


def test_the_spacing_says_how_the_cases_are_spread():
    facts = [((30, 40, 50), (float(z), 1.0, 0.5)) for z in (1, 2, 2, 3, 9)]
    because = rules.target_spacing(fingerprint(facts=facts)).because
    assert because == "the median over 5 cases (z 1 to 9 mm, the middle half 2 to 3; y 1 mm; x 0.5 mm)"
    assert rules.target_spacing(fingerprint(10)).because == "the median over 10 cases, which all have it"


def test_a_very_coarse_and_short_axis_takes_the_tenth_percentile():
    facts = [((20, 300, 300), (z, 0.5, 0.5)) for z in (2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0)]
    found = rules.target_spacing(fingerprint(facts=facts))
    assert found.value == (3.0, 0.5, 0.5)
    assert "10th percentile of 3 mm" in found.because
    long = [((200, 300, 300), mm) for _, mm in facts]
    assert rules.target_spacing(fingerprint(facts=long)).value == (5.0, 0.5, 0.5)


def test_the_tenth_percentile_never_gets_finer_than_the_other_axes():
    facts = [((20, 300, 300), (z, 1.0, 1.0)) for z in (0.2, 0.2, 5.0, 5.0, 5.0)]
    assert rules.target_spacing(fingerprint(facts=facts)).value == (1.0, 1.0, 1.0)


def test_the_coarsest_axis_comes_first():
    assert rules.axis_order((1, 1, 3), (50, 50, 20)).value == (2, 0, 1)
    assert rules.axis_order((1, 1.0001, 1), (50, 50, 50)).value == (0, 1, 2), "rounding is no anisotropy"
    assert rules.axis_order((1, 2, 2), (1, 50, 50)).value == (0, 1, 2), "2D data keep their single slice first"


def test_the_median_shape_follows_the_resampling():
    facts = [((10, 20, 30), (2.0, 1.0, 1.0)), ((20, 20, 40), (1.0, 1.0, 1.0)), ((24, 20, 50), (1.0, 1.0, 1.0))]
    assert rules.median_shape(fingerprint(facts=facts), (1, 1, 1), (2, 0, 1)).value == (40, 20, 20)


def test_the_kept_axis_has_a_number_only_where_all_cases_agree():
    same = fingerprint(facts=[((9, 9, 9), (2.0, 1.0, 1.0)), ((9, 9, 9), (2.0005, 1.0, 1.0))])
    other = fingerprint(facts=[((9, 9, 9), (2.0, 1.0, 1.0)), ((9, 9, 9), (3.0, 1.0, 1.0))])
    assert rules.kept_axis_spacing(same, 2.0, 0).value == 2.0
    assert rules.kept_axis_spacing(other, 2.5, 0).value is None


@pytest.mark.parametrize(
    ("kind", "normalization"), [("ct", "ct"), ("pet", "ct"), ("rgb", "rgb"), ("mr", "zscore"), ("us", "zscore")]
)
def test_each_kind_of_channel_has_its_normalisation(kind, normalization):
    (found,) = rules.normalizations(fingerprint(kind=kind)).value
    assert found.kind == normalization
    if normalization == "ct":
        assert (found.lower, found.upper, found.mean, found.std) == (-5.0, 90.0, 40.0, 20.0)


def test_zscore_stays_inside_the_voxels_that_are_not_zero_where_the_crop_took_much():
    assert rules.normalizations(fingerprint(crop_fraction=0.74)).value[0].masked
    assert not rules.normalizations(fingerprint(crop_fraction=0.76)).value[0].masked


def test_a_normalisation_by_hand_is_taken_and_named_so():
    found = rules.normalizations(fingerprint(kind="ct"), {"image": "minmax"})
    assert found.value[0].kind == "minmax"
    assert found.because == "image set by hand"
    with pytest.raises(UsageError, match=r"channel 'pet', which example does not have\. It has: image"):
        rules.normalizations(fingerprint(), {"pet": "zscore"})


@pytest.mark.parametrize(
    ("slices", "ratio", "wanted", "expected"),
    [(144, 2.0, None, 1), (36, 1.0, None, 0), (11, 15.0, None, 0), (1, 3.0, 2, 0), (144, 3.0, 0, 0), (36, 1.0, 2, 2)],
)
def test_neighbouring_slices_are_shown_where_they_are_near_and_thick(slices, ratio, wanted, expected):
    planning = PlanningPreset(context_slices=wanted)
    found = rules.context_slices(planning, slices=slices, anisotropy=ratio, third_mm=3.0)
    assert found.value == expected
    assert found.because


@pytest.mark.parametrize(
    ("patch", "degrees"),
    [((64, 64, 64), 30.0), ((16, 64, 64), 180.0), ((1, 64, 64), 180.0), ((1, 64, 40), 15.0), ((22, 64, 64), 30.0)],
)
def test_rotation_depends_on_how_flat_the_patch_is(patch, degrees):
    assert rules.rotation_degrees(patch, Augmentation()).value == degrees


def test_an_angle_that_the_preset_names_stays():
    assert rules.rotation_degrees((1, 64, 64), Augmentation(rotation_degrees=10)).value == 10


def test_dice_is_taken_over_the_batch_where_samples_lack_structures():
    assert rules.batch_dice(dimensions=2, has_low_resolution=False).value
    assert not rules.batch_dice(dimensions=3, has_low_resolution=False).value
    assert rules.batch_dice(dimensions=3, has_low_resolution=True).value
    assert not rules.batch_dice(dimensions=3, has_low_resolution=True, low_resolution=True).value
