from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.images.fields import Field, Rows
from autoseg.images.regrid import plan_passage
from autoseg.images.tiles import bytes_held, readings, slabs_of, tile_count
from autoseg.records.geometry import Box
from tests.images.by_hand import configuration, grid

SHAPE = (8, 64, 64)
WHOLE = Box(start=(0, 0, 0), stop=SHAPE)


@dataclass(frozen=True)
class Held:
    """A source that is asked for nothing but what it would hold: a byte a voxel."""

    shape: tuple[int, int, int, int] = (2, *SHAPE)
    depth: tuple[int, int, int] = (4, 64, 64)

    def open(self, axis: int, part: Box) -> Rows:
        raise AssertionError("nothing is read to know the tiles")

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        return math.prod(part_shape)


FIELD = Field(Held(), plan_passage(grid(SHAPE), WHOLE, configuration()))


def test_with_memory_enough_there_is_one_tile() -> None:
    assert tile_count([FIELD], math.inf) == 1
    assert bytes_held([FIELD]) == math.prod(SHAPE)
    assert list(readings([FIELD])) == [(0, 0, WHOLE)]


def test_tiles_are_cut_across_the_axis_of_reading_until_they_fit() -> None:
    memory = 8 * 40 * 40
    assert tile_count([FIELD], memory) == 4
    assert bytes_held([FIELD], memory) == 8 * 33 * 33  # a tile reads the neighbours of its last voxels
    parts = [part for _, _, part in readings([FIELD], memory)]
    assert [part.start for part in parts] == [(0, 0, 0), (0, 0, 32), (0, 32, 0), (0, 32, 32)]
    assert {(part.start[0], part.stop[0]) for part in parts} == {(0, 8)}


def test_tiles_do_not_become_narrower_than_windows_are_worth() -> None:
    assert tile_count([FIELD], 1) == 9
    assert bytes_held([FIELD], 1) == 8 * 23 * 23


def test_slabs_hold_as_many_rows_as_fit() -> None:
    tile = Box(start=(1, 10, 20), stop=(11, 14, 24))
    slabs = list(slabs_of(tile, 0, 2, 3 * 4 * 2 * 16))
    assert [(slab.start[0], slab.stop[0]) for slab in slabs] == [(1, 4), (4, 7), (7, 10), (10, 11)]
    assert {(slab.start[1:], slab.stop[1:]) for slab in slabs} == {((10, 20), (14, 24))}
    assert len(list(slabs_of(tile, 0, 2, 1))) == 10
