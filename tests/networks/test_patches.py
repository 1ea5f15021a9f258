"""Where windows lie, and how much each of their voxels counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autoseg.networks.patches import importance, pad, window_of, window_starts


def test_windows_are_half_overlapping_and_evenly_spread() -> None:
    assert window_starts(10, 10, 0.5) == (0,)
    assert window_starts(11, 10, 0.5) == (0, 1)
    assert window_starts(20, 10, 0.5) == (0, 5, 10)
    assert window_starts(21, 10, 0.5) == (0, 4, 7, 11)
    assert window_starts(3, 1, 0.5) == (0, 1, 2)
    assert window_starts(20, 10, 1.0) == (0, 10)


def test_importance_is_the_gaussian_and_never_vanishes() -> None:
    weight = importance((1, 1, 17))[0, 0]
    assert weight[8] == 1
    assert weight[10].item() == pytest.approx(np.exp(-0.5 * (2 / (17 / 8)) ** 2), rel=1e-5)
    assert importance((32, 32, 32)).min() == pytest.approx(1e-4)


def test_what_is_shorter_than_a_patch_gets_zeros_on_both_sides() -> None:
    picture = torch.ones(1, 2, 9, 3)
    padded, before = pad(picture, (4, 5, 6))
    assert before == (1, 0, 1)
    assert padded.shape == (1, 4, 9, 6)
    assert torch.equal(window_of(padded, before, picture.shape[1:]), picture)
    assert padded.sum() == picture.sum()


def test_what_is_long_enough_stays_as_it_is() -> None:
    picture = torch.ones(1, 4, 5, 6)
    padded, before = pad(picture, (4, 5, 6))
    assert padded is picture
    assert before == (0, 0, 0)
