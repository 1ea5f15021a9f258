import numpy as np
import pytest

from autoseg.records.volumes import CaseRegions
from autoseg.stages.training.centring import Centres, centred

PATCH = (8, 16, 16)
LESION, EMPTY, HIT = (10, 10, 10), (30, 30, 30), (50, 50, 50)


def box(at) -> np.ndarray:
    return np.array([[at, [a + 1 for a in at]]], np.int32)


def boxes(places) -> np.ndarray:
    return np.concatenate([box(at) for at in places]) if places else np.zeros((0, 2, 3), np.int32)


def regions(lesions=(LESION,), proposals=(EMPTY, HIT), rejections=(EMPTY,)) -> CaseRegions:
    return CaseRegions(boxes(lesions), boxes(proposals), boxes(rejections))


def middles(case, centres, count=2000) -> np.ndarray:
    corners = [centred(np.random.default_rng([1, n]), case, centres, PATCH) for n in range(count)]
    return np.array(corners) + np.array(PATCH) // 2


def test_windows_are_centred_by_the_shares():
    found = middles(regions(), Centres(0.5, 0.25, 0.0))
    share = {at: (found == at).all(axis=1).mean() for at in (LESION, EMPTY, HIT)}
    assert sum(share.values()) == 1
    # The last quarter is any proposal: half of it is empty.
    assert share[LESION] == pytest.approx(0.5, abs=0.04)
    assert share[EMPTY] == pytest.approx(0.375, abs=0.04)
    assert share[HIT] == pytest.approx(0.125, abs=0.03)


def test_centres_move_by_a_share_of_the_window():
    moved = middles(regions(proposals=(), rejections=()), Centres(1.0, 0.0, 0.25)) - LESION
    assert (np.abs(moved) <= np.array(PATCH) / 4 + 1).all()
    assert (np.abs(moved).max(axis=0) >= np.array(PATCH) / 4 - 1).all()


def test_what_is_larger_than_a_window_is_seen_in_all_of_its_parts():
    large = CaseRegions(np.array([[[0, 0, 0], [8, 16, 64]]], np.int32), boxes(()), boxes(()))
    found = middles(large, Centres(1.0, 0.0, 0.0))[:, 2]
    assert 8 <= found.min() < 12
    assert 52 < found.max() <= 56


def test_what_was_proposed_with_a_lower_probability_alone_is_rejected_too():
    found = middles(regions(proposals=(HIT,), rejections=(EMPTY,)), Centres(0.0, 1.0, 0.0), 100)
    assert (found == EMPTY).all()


@pytest.mark.parametrize(
    ("case", "seen"),
    [
        (regions(lesions=()), {EMPTY, HIT}),
        (regions(proposals=(), rejections=()), {LESION}),
        (regions(proposals=(HIT,), rejections=()), {LESION, HIT}),
    ],
)
def test_a_case_that_lacks_a_kind_gives_another(case, seen):
    assert {tuple(row) for row in middles(case, Centres(0.4, 0.4, 0.0), 300).tolist()} == seen


def test_a_case_with_nothing_gives_nothing():
    nothing = regions(lesions=(), proposals=(), rejections=())
    assert centred(np.random.default_rng(0), nothing, Centres(0.5, 0.25, 0.25), PATCH) is None
