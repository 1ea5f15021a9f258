import pytest

from autoseg.networks.class_weights import class_weights, structure_weights
from autoseg.records.labels import Labels, Region, Structure

STRUCTURES = tuple(Structure(name=f"s{value}", value=value, original=value) for value in (1, 2))


def test_none_is_none():
    assert class_weights("none", (100, 10, 1), Labels(structures=STRUCTURES)) is None


def test_inverse_weights_are_as_voxels_are_few_and_have_mean_one():
    weights = structure_weights("inverse", (80, 20, 5))
    assert weights == pytest.approx((0.1429, 0.5714, 2.2857), abs=1e-4)
    assert sum(weights) == pytest.approx(3)


def test_effective_weights_know_no_difference_between_large_classes():
    """1 - 0.9999^n over 0.0001: 1,000 voxels count as 952, 200,000 and 10 million as 10,000."""
    background, large, small = structure_weights("effective", (10_000_000, 200_000, 1000))
    assert large == pytest.approx(background, rel=1e-6)
    assert small / large == pytest.approx(10_000 / 951.7, rel=1e-3)


def test_no_class_weighs_more_than_a_hundred_times_another():
    weights = structure_weights("inverse", (10**8, 10**6, 1))
    assert max(weights) / min(weights) == pytest.approx(100)


@pytest.mark.parametrize("kind", ["inverse", "effective"])
def test_a_class_that_is_never_there_takes_no_part(kind):
    first, gone, last = structure_weights(kind, (80, 0, 20))
    assert gone == 1.0
    assert first + last == pytest.approx(2)


def test_regions_get_the_weight_of_their_inside():
    regions = (Region(name="whole", values=(1, 2), original=1), Region(name="core", values=(2,), original=2))
    weights = class_weights("inverse", (80, 15, 5), Labels(structures=STRUCTURES, regions=regions))
    assert weights == pytest.approx((80 / 20, 95 / 5))
