"""Logits of a second stage that works on proposed regions only: computed there, background everywhere else."""

# C channel, K output channels, Z Y X voxel

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoseg.images.fields import Rows
from autoseg.images.proposals import Foreground, carried, covered, grown, level_of, proposals, united
from autoseg.networks import sliding_window
from autoseg.networks.passes import Setting
from autoseg.records.configuration import Configuration
from autoseg.records.errors import DataError, UserError
from autoseg.records.geometry import Box
from autoseg.records.volumes import Passage

# Logits of what is background for certain: a probability of 1 - 4e-11, the same after 8 bits.
SURE = 12.0


@dataclass(frozen=True)
class Regional:
    """A member's mean logits as a `Source`: blocks that were computed, and background around them.

    Attributes:
        shape: (K, Z, Y, X).
        background: Logits of background, float32 (K,).
        blocks: Where, and float32 (K, z, y, x); no two overlap.
    """

    shape: tuple[int, int, int, int]
    background: Tensor
    blocks: tuple[tuple[Box, Tensor], ...]

    @property
    def depth(self) -> tuple[int, int, int]:
        """Nothing is computed while it is read."""
        return (0, 0, 0)

    def open(self, axis: int, part: Box) -> Rows:
        """Begin to read a part that is whole along `axis`."""
        return _RegionalRows(self, axis, part)

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        """Return 0: rows are made as they are read."""
        return 0.0

    def whole(self) -> np.ndarray:
        """Return all logits, (K, Z, Y, X)."""
        return self.part(Box(start=(0, 0, 0), stop=self.shape[1:])).numpy()

    def part(self, part: Box) -> Tensor:
        """Return the logits of a part, (K, z, y, x)."""
        logits = self.background.view(-1, 1, 1, 1).expand(-1, *part.shape).clone()
        for box, block in self.blocks:
            low = tuple(map(max, box.start, part.start))
            high = tuple(map(min, box.stop, part.stop))
            if all(a < b for a, b in zip(low, high)):
                here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, part.start))
                there = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, box.start))
                logits[(slice(None), *here)] = block[(slice(None), *there)]
        return logits


@dataclass(frozen=True)
class _RegionalRows:
    source: Regional
    axis: int
    within: Box

    def read(self, start: int, stop: int) -> Tensor:
        low, high = list(self.within.start), list(self.within.stop)
        low[self.axis], high[self.axis] = self.within.start[self.axis] + start, self.within.start[self.axis] + stop
        return self.source.part(Box(start=tuple(low), stop=tuple(high)))


def regions_of(foreground: Foreground, passage: Passage, configuration: Configuration, *, case: str) -> np.ndarray:
    """Return the regions (n, 2, 3) on a second stage's network grid.

    Args:
        foreground: Of its first stage.
        passage: Of the second stage.
        configuration: As it was trained, with the threshold that was chosen.
        case: For messages.

    Raises:
        DataError: No threshold was chosen.
    """
    regions = configuration.regions
    if regions is None or regions.threshold is None:
        what = f"{configuration.name} was trained without a threshold for its regions"
        raise DataError(what, case=case, fix="Train it again.", code="no_threshold")
    found = carried(proposals(foreground.levels, level_of(regions.threshold)), foreground.passage, passage)
    return grown(found, regions.margin_mm, passage.network.spacing_mm, passage.network.shape)


def compute(setting: Setting, image: Tensor, regions: np.ndarray, *, background: Tensor, case: str) -> Regional:
    """Return the logits of an image inside of its regions, and background outside.

    Regions that overlap are computed as one box. A box smaller than the window is seen in its middle; a larger one by
    overlapping windows, as a whole image is.

    Args:
        setting: How windows are computed.
        image: Network input, float32, (C, Z, Y, X).
        regions: (n, 2, 3).
        background: Logits of background, (K,).
        case: For messages.

    Raises:
        UserError: A network gave values that are not finite.
    """
    inside = covered(regions, image.shape[1:])
    blocks: list[tuple[Box, Tensor]] = []
    for box in united(regions):
        around = widened(box, setting.patch, image.shape[1:])
        try:
            logits = sliding_window.whole(setting, image[(slice(None), *around.slices())])[0]
        except UserError as error:
            raise error.in_case(case) from None
        place = tuple(slice(a - s, b - s) for a, b, s in zip(box.start, box.stop, around.start))
        block = logits[(slice(None), *place)].clone()
        outside = torch.from_numpy(~inside[box.slices()])
        blocks.append((box, torch.where(outside, background.view(-1, 1, 1, 1), block)))
    z, y, x = image.shape[1:]
    return Regional((len(background), z, y, x), background, tuple(blocks))


def sure_background(channels: int, output: str) -> Tensor:
    """Return logits (K,) that say background."""
    logits = torch.full((channels,), -SURE)
    if output == "softmax":
        logits[0] = SURE
    return logits


def widened(box: Box, patch: Sequence[int], shape: Sequence[int]) -> Box:
    """Return the box, or where it is smaller the window around its middle, moved to lie inside of the image."""
    low, high = [], []
    for start, stop, size, length in zip(box.start, box.stop, patch, shape):
        count = min(max(stop - start, size), length)
        first = min(max(0, (start + stop - count) // 2), length - count)
        low.append(first)
        high.append(first + count)
    return Box(start=tuple(low), stop=tuple(high))
