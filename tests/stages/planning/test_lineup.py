import pytest

from autoseg.stages.planning.lineup import Situation, shares, weights

BOTH = ("2d", "3d")


def chosen(flat=False, anisotropy=1.0, low_resolution=False, short=False, dimensions=BOTH):
    found = weights(Situation(flat, anisotropy, low_resolution, short), dimensions)
    return {kind: weight.value for kind, weight in found.items()}


def test_with_time_everything_that_was_planned_is_worth_training():
    assert list(chosen(low_resolution=True)) == ["3d", "2d", "3d_lowres", "3d_cascade"]


def test_in_a_short_budget_slices_of_isotropic_data_get_a_fifth():
    found = chosen(short=True)
    assert found["2d"] / sum(found.values()) == pytest.approx(0.2)


def test_in_a_short_budget_slices_of_anisotropic_data_get_a_third():
    found = chosen(short=True, anisotropy=5)
    assert found["2d"] / sum(found.values()) == pytest.approx(1 / 3)


def test_in_a_short_budget_large_images_get_context_and_no_cascade():
    assert list(chosen(short=True, low_resolution=True)) == ["3d", "3d_lowres"]


def test_a_network_is_not_asked_for_what_it_cannot_do():
    assert list(chosen(dimensions=("2d",), short=True)) == ["2d"]
    assert chosen(flat=True, dimensions=("3d",)) == {}


def test_shares_add_up_to_one():
    assert sum(entry.share for entry in shares([("a", 1), ("b", 1), ("c", 1)])) == pytest.approx(1)
