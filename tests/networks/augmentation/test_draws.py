"""Draws: their ranges, how often they strike, and that they replay."""

from __future__ import annotations

import numpy as np
import pytest

from autoseg.networks.augmentation import Draw, draw, identity, source_shape
from autoseg.records.preset import Augmentation

CUBE = (16, 16, 16)


def draws(count: int, patch: tuple[int, int, int] = CUBE, settings: Augmentation | None = None, **more) -> list[Draw]:
    rng = np.random.default_rng(0)
    keys = {"mirror_axes": (0, 1, 2), "channels": 1} | more
    return [draw(rng, settings or Augmentation(), patch_shape=patch, **keys) for _ in range(count)]


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("name", "none", "probability", "low", "high"),
    [
        ("brightness", 1, 0.15, 0.75, 1.25),
        ("contrast", 1, 0.15, 0.75, 1.25),
        ("gamma", 1, 0.3, 0.7, 1.5),
        ("inverted_gamma", 1, 0.1, 0.7, 1.5),
        ("blur_sigma", 0, 0.2, 0.5, 1.0),
        ("low_resolution", 1, 0.25, 0.5, 1.0),
    ],
)
def test_strengths_fill_their_range_as_often_as_set(
    name: str, none: float, probability: float, low: float, high: float
) -> None:
    values = [getattr(item, name)[0] for item in draws(4000)]
    struck = [value for value in values if value != none]
    assert share([value != none for value in values]) == pytest.approx(probability, abs=0.025)
    assert low <= min(struck) < low + 0.02
    assert high - 0.02 < max(struck) <= high
    if name in ("brightness", "contrast", "gamma", "inverted_gamma"):
        assert share([value < 1 for value in struck]) == pytest.approx(0.5, abs=0.06)


def test_rotation_scaling_mirroring_and_noise_strike_as_often_as_set() -> None:
    many = draws(4000)
    assert share([any(item.angles_degrees) for item in many]) == pytest.approx(0.2, abs=0.025)
    assert share([item.scale != 1 for item in many]) == pytest.approx(0.2, abs=0.025)
    assert share([item.mirror[1] for item in many]) == pytest.approx(0.5, abs=0.03)
    assert share([item.noise_std > 0 for item in many]) == pytest.approx(0.1, abs=0.02)
    assert max(abs(angle) for item in many for angle in item.angles_degrees) <= 30
    assert 0.7 <= min(item.scale for item in many) < max(item.scale for item in many) <= 1.4


@pytest.mark.parametrize("patch", [(1, 40, 40), (1, 4, 4), (1, 2, 2), (8, 40, 40), (8, 25, 8)])
def test_flat_patches_turn_in_the_plane_only_as_far_as_planned(patch: tuple[int, int, int]) -> None:
    many = draws(1000, patch, Augmentation(rotation_degrees=180))
    angles = [abs(item.angles_degrees[0]) for item in many]
    assert 170 < max(angles) <= 180
    assert all(item.in_plane and item.angles_degrees[1:] == (0, 0) for item in many)


def test_a_patch_of_three_to_one_still_turns_in_space() -> None:
    assert not any(item.in_plane for item in draws(5, (10, 30, 30)))


def test_only_mirror_axes_are_flipped() -> None:
    many = draws(200, mirror_axes=(1,))
    assert {item.mirror for item in many} == {(False, False, False), (False, True, False)}


def test_every_draw_takes_the_same_count_of_numbers() -> None:
    def next_number(settings: Augmentation, previous: bool) -> float:
        rng = np.random.default_rng(3)
        draw(rng, settings, patch_shape=CUBE, mirror_axes=(), channels=2, previous=previous)
        return rng.random()

    calm = Augmentation(rotation_probability=0, gamma_probability=0, blur_probability=0)
    assert next_number(calm, False) == next_number(Augmentation(rotation_probability=1), True)


def test_previous_labels_are_corrupted_as_often_as_set() -> None:
    many = draws(4000, previous=True)
    assert share([item.previous_operation != "none" for item in many]) == pytest.approx(0.4, abs=0.03)
    assert share([item.previous_removal for item in many]) == pytest.approx(0.2, abs=0.025)
    assert {item.previous_radius for item in many} == {1, 2, 3, 4, 5}
    assert not any(item.previous_removal for item in draws(50))


def test_a_struck_sample_changes_at_least_one_channel() -> None:
    many = draws(300, settings=Augmentation(blur_probability=1), channels=3)
    assert all(any(item.blur_sigma) for item in many)
    assert any(0 in item.blur_sigma for item in many)


def test_the_window_is_no_larger_than_the_draws_need() -> None:
    from dataclasses import replace

    still = identity(1)
    assert source_shape([still, replace(still, mirror=(True, True, True))], (8, 9, 10)) == (8, 9, 10)
    assert source_shape([replace(still, scale=2.0)], (8, 9, 10)) == (8, 9, 10)
    assert source_shape([still, replace(still, scale=0.5)], (9, 9, 9)) == (17, 17, 17)
    # A square turned by 45 degrees reaches 4 x 2^0.5 = 5.66 voxels from its centre instead of 4.
    turned = replace(still, angles_degrees=(45.0, 0.0, 0.0), in_plane=True)
    assert source_shape([turned], (3, 9, 9)) == (3, 13, 13)
