"""Corrupting what a previous stage said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from autoseg.networks.augmentation import identity
from autoseg.networks.augmentation.previous import corrupt, remove_pieces, reshape_classes


def cube() -> torch.Tensor:
    labels = torch.zeros(9, 9, 9, dtype=torch.uint8)
    labels[3:6, 3:6, 3:6] = 1
    return labels


def test_dilation_and_erosion_of_a_cube() -> None:
    assert (reshape_classes(cube(), [1], "dilate", (1, 1, 1)) == 1).sum() == 5**3
    assert (reshape_classes(cube(), [1], "dilate", (0, 1, 1)) == 1).sum() == 3 * 5 * 5
    assert (reshape_classes(cube(), [1], "erode", (1, 1, 1)) == 1).sum() == 1
    assert torch.equal(reshape_classes(cube(), [1], "open", (1, 1, 1)), cube())
    assert reshape_classes(cube(), [1], "open", (2, 2, 2)).sum() == 0


def test_closing_fills_a_hole_and_growing_takes_from_the_neighbour() -> None:
    labels = cube()
    labels[4, 4, 4] = 0
    assert torch.equal(reshape_classes(labels, [1], "close", (1, 1, 1)), cube())
    pair = cube()
    pair[:, :, 6:] = 2
    grown = reshape_classes(pair, [2], "dilate", (1, 1, 1))
    assert (grown == 1).sum() == 3 * 3 * 2


def test_one_small_piece_goes() -> None:
    labels = torch.zeros(9, 9, 9, dtype=torch.uint8)
    labels[:, :, :3] = 1
    labels[4, 4, 6] = 2
    out = remove_pieces(labels, np.random.default_rng(0))
    assert (out == 1).sum() == 9 * 9 * 3
    assert (out == 2).sum() == 0


def test_corruption_follows_the_draw() -> None:
    still = identity(1)
    batch = torch.stack([cube(), cube(), cube()])
    items = [
        still,
        replace(still, previous_operation="dilate", previous_radius=1),
        replace(still, previous_removal=True),
    ]
    out = corrupt(items, batch.clone(), classes=2)
    assert torch.equal(out[0], cube())
    assert (out[1] == 1).sum() == 5**3
    assert out[2].sum() == 0
    assert out.dtype == torch.uint8
