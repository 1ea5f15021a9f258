from __future__ import annotations

import numpy as np
import pytest

from autoseg.images.normalize import normalize
from autoseg.records.configuration import Normalization
from autoseg.records.errors import DataError


def line(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, 1, -1)


def rule(kind: str, **more: object) -> tuple[Normalization]:
    return (Normalization(channel="a", kind=kind, **more),)


def test_ct_is_clipped_and_scaled_by_the_data_sets_figures() -> None:
    found = normalize(line(-2000, 0, 100, 3000), rule("ct", lower=-100, upper=300, mean=100, std=50))
    assert found.ravel().tolist() == [-4, -2, 0, 4]


def test_zscore_by_case() -> None:
    assert normalize(line(1, 3, 1, 3), rule("zscore")).ravel().tolist() == [-1, 1, -1, 1]


def test_masked_zscore_counts_what_is_not_zero_and_leaves_zero() -> None:
    assert normalize(line(0, 1, 3, 0), rule("zscore", masked=True)).ravel().tolist() == [0, -1, 1, 0]


@pytest.mark.parametrize(("kind", "expected"), [("zscore", [-1, 1, 0]), ("minmax", [0, 1, 0]), ("none", [2, 6, 0])])
def test_padding_stays_out_of_the_statistics(kind: str, expected: list[float]) -> None:
    valid = np.array([True, True, False]).reshape(1, 1, 1, 3)
    assert normalize(line(2, 6, 1000), rule(kind), valid).ravel().tolist() == expected


def test_ct_padding_becomes_zero() -> None:
    valid = np.array([True, False]).reshape(1, 1, 1, 2)
    found = normalize(line(50, -1024), rule("ct", lower=-100, upper=300, mean=0, std=50), valid)
    assert found.ravel().tolist() == [1, 0]


def test_rgb_and_none() -> None:
    assert normalize(line(0, 51, 255), rule("rgb")).ravel().tolist() == pytest.approx([0, 0.2, 1])
    assert normalize(line(0, 51, 255), rule("none")).ravel().tolist() == [0, 51, 255]


@pytest.mark.parametrize("kind", ["zscore", "minmax"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e7])
def test_a_constant_image_becomes_zeros(kind: str, value: float) -> None:
    assert normalize(np.full((1, 7, 7, 7), value, np.float32), rule(kind)).any() == np.False_


def test_a_channel_without_one_valid_voxel_becomes_zeros() -> None:
    assert not normalize(line(5, 6), rule("zscore"), np.zeros((1, 1, 1, 2), bool)).any()


def test_each_channel_has_its_own_rule_and_the_input_stays() -> None:
    image = np.concatenate([line(1, 3), line(51, 255)])
    rules = (*rule("zscore"), *rule("rgb"))
    before = image.copy()
    assert normalize(image, rules).ravel().tolist() == pytest.approx([-1, 1, 0.2, 1])
    assert np.array_equal(image, before)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(DataError, match="has 2 channels, but the plan was made for 1: a"):
        normalize(np.zeros((2, 1, 1, 1), np.float32), rule("none"))
