"""Where voxels lie in the patient (Grid), and a part of them (Box)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from autoseg.records.record import Record

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
Matrix = tuple[Triple, Triple, Triple]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Grid(Record):
    """A regular grid of voxels in patient space (LPS, as DICOM and ITK have it).

    Attributes:
        shape: Voxels along (z, y, x), the order of the array's axes.
        spacing_mm: Distance of voxel centres along (z, y, x), in mm.
        origin_mm: Centre of voxel (0, 0, 0) as (x, y, z) in LPS, in mm.
        direction: Rows of the 3x3 matrix whose columns are the LPS directions of the array's x, y and z axes
            (the order of ITK's `GetDirection`).
    """

    shape: Shape
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: Matrix = IDENTITY

    def affine(self) -> np.ndarray:
        """Return the 4x4 float64 matrix from array index (z, y, x, 1) to LPS (x, y, z, 1), in mm."""
        matrix = np.eye(4)
        columns = np.asarray(self.direction)[:, ::-1]  # now one column an array axis (z, y, x)
        matrix[:3, :3] = columns * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    def extent_mm(self) -> Triple:
        """Return the size of the field of view along (z, y, x), in mm."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return (z, y, x)

    def voxel_ml(self) -> float:
        """Return the volume of one voxel in millilitres."""
        return math.prod(self.spacing_mm) / 1000.0

    def difference(self, other: Grid) -> str | None:
        """Return in words how `other` differs from this grid, or None when both are the same.

        Tolerances: 1e-3 of the spacing for the spacing, half a voxel for the origin, 1e-3 for each direction cosine.
        """
        if self.shape != other.shape:
            return f"shape {other.shape} instead of {self.shape} (z, y, x)"
        for mine, theirs in zip(self.spacing_mm, other.spacing_mm, strict=True):
            if abs(mine - theirs) > 1e-3 * mine:
                return f"spacing {_words(other.spacing_mm)} mm instead of {_words(self.spacing_mm)} mm (z, y, x)"
        if not np.allclose(self.direction, other.direction, atol=1e-3):
            return f"direction {other.direction} instead of {self.direction}"
        shift = np.abs(np.subtract(self.origin_mm, other.origin_mm)).max()
        if shift > 0.5 * min(self.spacing_mm):
            return f"origin {_words(other.origin_mm)} mm instead of {_words(self.origin_mm)} mm (x, y, z)"
        return None


class Box(Record):
    """A half-open box of voxels: `start <= index < stop` along (z, y, x)."""

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    @classmethod
    def of(cls, slices: Sequence[slice]) -> Self:
        """Return the box that three slices cut out."""
        z, y, x = slices
        return cls(start=(z.start, y.start, x.start), stop=(z.stop, y.stop, x.stop))

    def slices(self) -> tuple[slice, slice, slice]:
        """Return the slices that cut the box out of a (Z, Y, X) array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)


def _words(numbers: Triple) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
