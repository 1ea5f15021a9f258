"""Reading between voxels along one axis after the other."""

from __future__ import annotations

import numpy as np
import torch

from autoseg.networks.augmentation.lines import find_line, read_lines


def test_places_lie_between_two_voxels_and_outside_is_the_edge() -> None:
    line = find_line(np.array([-1.0, 0.25, 1.0, 2.0, 3.5]), np.arange(3))
    assert line.low.tolist() == [0, 0, 1, 2, 2]
    assert line.high.tolist() == [1, 1, 2, 2, 2]
    assert line.share.tolist() == [0, 0.25, 0, 0, 0]


def test_places_count_the_voxels_that_are_kept() -> None:
    line = find_line(np.array([0.5, 1.25, 9.0]), np.array([2, 5, 8]))
    assert line.low.tolist() == [2, 5, 8]
    assert line.high.tolist() == [5, 8, 8]
    assert line.share.tolist() == [0.5, 0.25, 0]


def test_each_axis_is_read_by_its_own_line() -> None:
    values = torch.arange(24.0).view(1, 2, 3, 4)
    lines = [
        find_line(np.array(places), np.arange(size)) for places, size in (([0.5], 2), ([0.0, 1.5], 3), ([3.0, 0.25], 4))
    ]
    assert read_lines(values, lines).tolist() == [[[[9.0, 6.25], [15.0, 12.25]]]]
    assert torch.equal(read_lines(values[0], lines), read_lines(values, lines)[0])


def test_an_axis_without_a_line_stays_as_it_is() -> None:
    values = torch.arange(6.0).view(2, 1, 3)
    assert torch.equal(read_lines(values, [None, None, None]), values)
    line = find_line(np.array([0.5, 1.5]), np.arange(3))
    assert read_lines(values, [None, None, line]).tolist() == [[[0.5, 1.5]], [[3.5, 4.5]]]
