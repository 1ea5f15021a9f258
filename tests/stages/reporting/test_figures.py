"""Pictures are inline and the planes look as a radiologist expects."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image as Picture

from autoseg.records.geometry import Grid
from autoseg.records.volumes import LabelMap
from autoseg.stages.reporting import figures


def opened(inline: str) -> np.ndarray:
    head, _, body = inline.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


def test_an_overlay_draws_truth_and_prediction() -> None:
    grid = Grid(shape=(12, 20, 20), spacing_mm=(2, 1, 1))
    truth, found = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    truth[4:8, 5:12, 5:12] = 1
    found[4:8, 7:14, 5:12] = 1
    image = np.zeros(grid.shape, np.float32)
    empty = LabelMap(np.zeros_like(truth), grid)
    both = opened(figures.overlay(image, LabelMap(truth, grid), LabelMap(found, grid)))
    only_truth = opened(figures.overlay(image, LabelMap(truth, grid), empty))
    blue = (both.astype(int) - [0x2F, 0x6F, 0xED]).__abs__().sum(-1) < 30
    assert blue.any()
    assert not ((only_truth.astype(int) - [0x2F, 0x6F, 0xED]).__abs__().sum(-1) < 30).any()


def test_the_head_is_up() -> None:
    array = np.zeros((4, 3, 3))
    array[3] = 1  # the highest slice, +z
    plane = figures._cut(array, 1, (0, 1, 1))
    assert plane[0].all()
    assert not plane[-1].any()


def test_the_plane_with_most_of_the_structure_is_shown() -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[3, 2:5, 1] = 1
    labels[3, 4, 1:6] = 1
    assert figures._centre(labels) == (3, 4, 1)
    assert figures._centre(np.zeros((5, 6, 7), np.uint8)) == (2, 3, 3)


def test_boxes_survive_nan_and_inf_and_nothing_and_draw_intervals() -> None:
    values = {"a": [0.5, 0.7, float("nan")], "b": [float("inf")]}
    without = opened(figures.boxes(values, title="Dice", centres={"b": float("inf")}, intervals={}))
    centres, intervals = {"a": 0.6}, {"a": (0.5, 0.7), "b": (0.1, float("inf"))}
    drawn = opened(figures.boxes(values, title="Dice", centres=centres, intervals=intervals))
    orange = [((item.astype(int) - [0xE8, 0x59, 0x0C]).__abs__().sum(-1) < 30).sum() for item in (without, drawn)]
    assert orange[0] == 0 < orange[1]
    assert opened(figures.boxes({}, title="Dice", centres={}, intervals={})).size


def test_a_close_up_keeps_what_is_around_the_structure() -> None:
    grid = Grid(shape=(60, 200, 200), spacing_mm=(1, 1, 1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[20:24, 100:110, 50:60] = 1
    assert figures._around(labels > 0, grid.spacing_mm) == (slice(5, 39), slice(85, 125), slice(35, 75))
    both = LabelMap(labels, grid)
    close = opened(figures.overlay(np.zeros(grid.shape), both, both, focus=labels > 0))
    whole = opened(figures.overlay(np.zeros(grid.shape), both, both))
    blue = [((item.astype(int) - [0x2F, 0x6F, 0xED]).__abs__().sum(-1) < 60).sum() for item in (whole, close)]
    assert blue[1] > 2 * blue[0]


def test_slices_of_2d_data_have_one_plane() -> None:
    grid = Grid(shape=(1, 20, 20), spacing_mm=(1, 1, 1))
    labels = LabelMap(np.ones(grid.shape, np.uint8), grid)
    one = opened(figures.overlay(np.zeros(grid.shape), labels, labels))
    grid = Grid(shape=(9, 20, 20), spacing_mm=(1, 1, 1))
    labels = LabelMap(np.ones(grid.shape, np.uint8), grid)
    three = opened(figures.overlay(np.zeros(grid.shape), labels, labels))
    assert three.shape[1] > 2 * one.shape[1]


def test_outlines_draw_a_row_before_and_a_row_after() -> None:
    fixed = np.zeros((12, 20, 20), np.float32)
    fixed[4:8, 5:12, 5:12] = 100
    away = np.roll(fixed, 5, axis=2)
    titles = ("before", "after")
    same = opened(figures.outlines(fixed, [away, fixed], (2.0, 1.0, 1.0), titles=titles))
    other = opened(figures.outlines(fixed, [away, away], (2.0, 1.0, 1.0), titles=titles))
    half = same.shape[0] // 2
    assert (same[:half] == other[:half]).all()
    assert (same[half:] != other[half:]).any()
    assert opened(figures.outlines(fixed, [fixed * 0], (2.0, 1.0, 1.0), titles=("before",))).size


def test_a_map_is_warm_where_it_is_high_and_seen_through_where_it_is_low() -> None:
    grid = Grid(shape=(12, 20, 20), spacing_mm=(2, 1, 1))
    field = np.zeros(grid.shape, np.float32)
    nothing = LabelMap(np.zeros(grid.shape, np.uint8), grid)
    cold = opened(figures.heat(field, field, nothing)).astype(int)
    field[5:8, 4:9, 4:9] = 1
    warm = opened(figures.heat(np.zeros_like(field), field, nothing)).astype(int)
    coloured = [(picture.max(-1) - picture.min(-1) > 60).sum() for picture in (cold, warm)]
    assert coloured[0] == 0 < coloured[1]
