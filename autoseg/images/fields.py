"""What networks say of every voxel of a scan: logits that are there already, or computed as they are read.

# K class, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from autoseg.images.orientation import permute
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box
from autoseg.records.volumes import Passage

if TYPE_CHECKING:
    from torch import Tensor

Output = Literal["softmax", "sigmoid"]


class Rows(Protocol):
    """Logits of a part of the network's grid, read forwards along one axis."""

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop`, float32, (K, ...); `start` never lies before that of an earlier reading."""


class Source(Protocol):
    """Logits that are computed when they are read, so that they are never all there at once."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(K, Z, Y, X)."""

    @property
    def depth(self) -> tuple[int, int, int]:
        """Rows along each axis that are held at once."""

    def open(self, axis: int, part: Box) -> Rows:
        """Begin to read a part that is whole along `axis`."""

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        """Return what is held while such a part is read."""


@dataclass(frozen=True)
class Field:
    """What one model, or the mean of several on one grid, says of every voxel.

    Attributes:
        array: Logits, float32, (K, Z, Y, X) on `passage.network`, or a `Source` of them.
        passage: The way of the scan to that grid.
        weight: Of this field among others, one number or one a class; only ratios matter.
        inside: The part of `passage.network` that `array` covers; outside all is background. None: everything.
    """

    array: Any
    passage: Passage
    weight: float | tuple[float, ...] = 1.0
    inside: Box | None = None


@dataclass(frozen=True)
class _Stored:
    """Logits that are there already, as a source."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        classes, z, y, x = self.array.shape
        return classes, z, y, x

    @property
    def depth(self) -> tuple[int, int, int]:
        return (0, 0, 0)

    def open(self, axis: int, part: Box) -> Rows:
        return _StoredRows(self.array[(slice(None), *part.slices())], axis)

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        return 0.0


@dataclass(frozen=True)
class _StoredRows:
    array: np.ndarray
    axis: int

    def read(self, start: int, stop: int) -> Tensor:
        import torch  # here, so that a process that only prepares scans does not load it

        place = [slice(None)] * 4
        place[1 + self.axis] = slice(start, stop)
        rows = self.array[tuple(place)]
        _require_finite(rows)
        return torch.from_numpy(np.ascontiguousarray(rows) if rows.flags.writeable else rows.copy())


def as_source(array: Any, order: tuple[int, ...], flips: Sequence[bool]) -> tuple[Source, tuple[int, ...]]:
    """Return the array of a `Field` as a source, and what of the order of axes is left to do as it is read.

    Args:
        array: As in `Field`.
        order: `permute` by it brings the field's own axes into the wanted order.
        flips: Of the axes of the result.
    """
    if isinstance(array, np.ndarray):
        return _Stored(permute(array, order, flips)), (0, 1, 2)
    if any(flips):  # a network is read forwards only; grids of one scan differ by the order of axes alone
        z, y, x = array.shape[1:]
        whole = array.open(0, Box(start=(0, 0, 0), stop=(z, y, x))).read(0, z)
        return _Stored(permute(whole.cpu().numpy(), order, flips)), (0, 1, 2)
    return array, order


def _require_finite(logits: np.ndarray) -> None:
    # A comparison with nan is never true: without this every voxel would quietly become background.
    for value, layer in enumerate(logits):
        if not np.isfinite(layer).all():
            raise DataError(
                f"the network's output for class {value} is not finite",
                fix="The model is damaged or its training has diverged: train it again, or leave it out.",
                code="not_finite",
            )
