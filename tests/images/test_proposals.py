import numpy as np
import pytest

from autoseg.images import orientation
from autoseg.images.orientation import permute_grid
from autoseg.images.proposals import (
    CANDIDATES,
    LEVELS,
    MOST_PROPOSALS,
    Foreground,
    carried,
    count,
    covered,
    grown,
    level_of,
    pieces_of,
    proposals,
    united,
)
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage

SIDE = 12


def passage(shape=(SIDE,) * 3, *, network=None, spacing_mm=(1.0, 1.0, 1.0), start=(0, 0, 0), stop=None) -> Passage:
    """A scan whose crop is resampled to `network`, a shape; the field of view stays."""
    original = Grid(shape=shape, spacing_mm=spacing_mm)
    crop = Box(start=start, stop=stop or shape)
    size = network or crop.shape
    mm = tuple(m * old / new for m, old, new in zip(spacing_mm, crop.shape, size, strict=True))
    return Passage(original=original, oriented=original, crop=crop, network=Grid(shape=size, spacing_mm=mm))


def boxes(*items) -> np.ndarray:
    return np.array(items, np.int32).reshape(-1, 2, 3)


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[4, 0, 0] = True
    found, sizes = pieces_of(mask)
    assert sorted(found.tolist()) == [[[1, 1, 1], [3, 3, 3]], [[4, 0, 0], [5, 1, 1]]]
    assert sorted(sizes.tolist()) == [1, 2]
    assert pieces_of(np.zeros((2, 2, 2), bool))[0].shape == (0, 2, 3)


def test_proposals_come_in_the_order_of_their_peaks():
    levels = np.zeros((3, 3, 9), np.uint8)
    levels[1, 1, [0, 4, 8]] = 20, 90, 60
    assert proposals(levels, 20)[:, 0, 2].tolist() == [4, 8, 0]
    assert proposals(levels, 61)[:, 0, 2].tolist() == [4]
    assert proposals(levels, 91).shape == (0, 2, 3)


def test_of_very_many_proposals_the_likeliest_are_kept():
    levels = np.zeros((1, 41, 41), np.uint8)
    levels[0, ::2, ::2] = np.arange(21 * 21).reshape(21, 21) % 200 + 1
    found = proposals(levels, 1)
    assert len(found) == MOST_PROPOSALS
    kept = levels[0, found[:, 0, 1], found[:, 0, 2]]
    assert kept.min() >= np.sort(levels[levels > 0])[-MOST_PROPOSALS]


def test_a_box_on_a_coarser_grid_holds_what_it_held():
    fine, coarse = passage(), passage(network=(6, 6, 6))
    assert carried(boxes([[2, 3, 5], [4, 4, 8]]), fine, coarse).tolist() == [[[1, 1, 2], [2, 2, 4]]]
    assert carried(boxes([[1, 1, 2], [2, 2, 4]]), coarse, fine).tolist() == [[[2, 2, 4], [4, 4, 8]]]


def test_a_box_follows_the_crop():
    source = passage(start=(2, 0, 0), stop=(12, 12, 12))
    shifted = passage(start=(0, 4, 0), stop=(12, 12, 12))
    assert carried(boxes([[0, 5, 1], [1, 6, 2]]), source, shifted).tolist() == [[[2, 1, 1], [3, 2, 2]]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_a_box_goes_where_its_voxels_go(order, flips):
    shape = (6, 8, 10)
    source = passage(shape)
    grid = permute_grid(source.original, order, flips)
    target = Passage(original=source.original, oriented=grid, crop=Box(start=(0, 0, 0), stop=grid.shape), network=grid)
    mask = np.zeros(shape, bool)
    mask[1:3, 2:7, 4:5] = True
    there = orientation.reorient(mask, source.original, grid)
    assert carried(pieces_of(mask)[0], source, target).tolist() == pieces_of(there)[0].tolist()


def test_boxes_grow_by_millimetres_as_far_as_the_grid_reaches():
    found = grown(boxes([[4, 4, 1], [5, 5, 2]]), 2.5, (5.0, 1.0, 1.0), (10, 10, 10))
    assert found.tolist() == [[[3, 1, 0], [6, 8, 5]]]


def test_boxes_that_overlap_become_one():
    chain = boxes([[0, 0, 0], [3, 3, 3]], [[8, 8, 8], [9, 9, 9]], [[2, 2, 2], [5, 5, 5]], [[4, 4, 4], [6, 6, 6]])
    assert united(chain) == [Box(start=(0, 0, 0), stop=(6, 6, 6)), Box(start=(8, 8, 8), stop=(9, 9, 9))]
    beside = boxes([[0, 0, 0], [3, 3, 3]], [[3, 0, 0], [5, 3, 3]])
    assert len(united(beside)) == 2


def test_united_boxes_never_overlap_and_hold_everything():
    rng = np.random.default_rng(0)
    for _ in range(30):
        low = rng.integers(0, 20, (12, 3))
        drawn = np.stack([low, low + rng.integers(1, 6, (12, 3))], axis=1)
        found = united(drawn)
        together = np.zeros((26,) * 3, int)
        for box in found:
            together[box.slices()] += 1
        assert together.max() == 1
        assert not (covered(drawn, together.shape) & (together == 0)).any()


def test_lesions_and_proposals_are_counted_at_every_level():
    levels, lesions = np.zeros((SIDE,) * 3, np.uint8), np.zeros((SIDE,) * 3, bool)
    lesions[2:4, 2, 2] = True
    levels[2, 2, 2] = 100  # one lesion is sure
    lesions[9, 9, 6:10] = True
    levels[9, 9, 9] = 10  # of the other an end is guessed
    levels[2, 9, 9] = 200  # and nothing is surest
    way = passage()
    counted = count(Foreground(levels, way, "softmax"), lesions, way, margin_mm=1.0)
    held = dict(zip(CANDIDATES, counted.held.tolist(), strict=True))
    # A margin of one voxel around the end holds two of four voxels: half of the lesion.
    assert held[8] == [True, True]
    assert held[13] == [True, False]
    assert held[102] == [False, False]
    assert len(counted.lesions) == 2
    at_8, at_128 = counted.at(CANDIDATES.index(8)), counted.at(CANDIDATES.index(128))
    assert at_8.proposals[:, 0].tolist() == [[2, 9, 9], [2, 2, 2], [9, 9, 9]]
    assert at_8.rejections[:, 0].tolist() == [[2, 9, 9]]
    assert [counted.empty_at(CANDIDATES.index(level)) for level in (8, 128)] == [1, 1]
    assert at_128.proposals[:, 0].tolist() == [[2, 9, 9]]
    assert counted.region_fraction[CANDIDATES.index(128)] == pytest.approx(27 / SIDE**3)


def test_a_level_with_few_empty_proposals_takes_those_of_a_lower_one():
    levels = np.zeros((40,) * 3, np.uint8)
    levels[::4, ::4, 0] = 20  # a hundred of little probability,
    levels[::4, 0, 20] = 102  # ten of more,
    levels[0, 0, 30] = 255  # one of the most
    grid = Grid(shape=levels.shape, spacing_mm=(1.0, 1.0, 1.0))
    way = Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=grid.shape), network=grid)
    counted = count(Foreground(levels, way, "softmax"), np.zeros(levels.shape, bool), way, margin_mm=0.0)
    assert [counted.empty_at(CANDIDATES.index(level)) for level in (20, 102, 128)] == [111, 11, 1]
    for level, wanted in ((128, 11), (102, 11), (31, 11), (20, 111)):
        found = counted.at(CANDIDATES.index(level))
        assert len(found.rejections) == wanted, level
    assert len(counted.at(CANDIDATES.index(128)).proposals) == 1


def test_a_case_without_lesions_or_proposals_is_counted_too():
    way = passage()
    counted = count(Foreground(np.zeros((SIDE,) * 3, np.uint8), way, "softmax"), np.zeros((SIDE,) * 3, bool), way,
                    margin_mm=1.0)  # fmt: skip
    assert counted.held.shape == (len(CANDIDATES), 0)
    assert counted.at(0).proposals.shape == (0, 2, 3)


def test_levels_are_whole():
    assert [level_of(level / LEVELS) for level in CANDIDATES] == list(CANDIDATES)
    assert level_of(0.0) == 1
