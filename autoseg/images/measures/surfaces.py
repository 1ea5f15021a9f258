"""How far the surfaces of two masks lie from one another.

A surface is sampled where voxels meet: every 2x2x2 neighbourhood that is neither empty nor full holds one surface
element (surfel). It lies at the neighbourhood's centre, and its area follows from which of the 8 voxels are set (the
neighbour code). Percentiles and fractions are weighted by area, so that they do not depend on how finely a part of
the surface happens to be sampled. A mask of one slice is a figure in the plane: its surfels are pieces of contour
(2x2 neighbourhoods, lengths in mm).

Source: Nikolov et al. 2018, arXiv:1809.04430 (surfels weighted by the area of their neighbour code).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.ndimage import distance_transform_edt, label
from skimage.measure import marching_cubes

from autoseg.images.boxes import box_of
from autoseg.images.measures.overlap import check_shapes
from autoseg.records.geometry import Triple

# A distance that equals the tolerance counts as agreement, also where 3 x 0.1 is a little more than 0.3.
ROUNDING = 1e-6

Spacing = tuple[float, ...]  # along (z, y, x), or (y, x) in the plane, in mm


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of every surfel to the other surface; infinite where there is no other surface.

    Attributes:
        truth_to_prediction_mm: Float64, one a surfel of the truth, ascending; empty when the truth is.
        truth_areas: Area of these surfels in mm2 (length in mm for a mask of one slice).
        prediction_to_truth_mm: Float64, one a surfel of the prediction, ascending.
        prediction_areas: Area of these.
    """

    truth_to_prediction_mm: np.ndarray
    truth_areas: np.ndarray
    prediction_to_truth_mm: np.ndarray
    prediction_areas: np.ndarray

    @property
    def nothing(self) -> bool:
        """Whether both surfaces are empty: every figure is nan then."""
        return not (self.truth_areas.size or self.prediction_areas.size)

    def hausdorff_mm(self, fraction: float = 0.95) -> float:
        """Return the larger of the two sides' percentile distances, in mm; infinite when exactly one is empty."""
        if self.nothing:
            return math.nan
        forth = _percentile(self.truth_to_prediction_mm, self.truth_areas, fraction)
        back = _percentile(self.prediction_to_truth_mm, self.prediction_areas, fraction)
        return max(forth, back)

    def greatest_mm(self) -> float:
        """Return the Hausdorff distance: the greatest of either side, in mm; infinite when exactly one is empty."""
        if self.nothing:
            return math.nan
        return float(max(side[-1] for side in (self.truth_to_prediction_mm, self.prediction_to_truth_mm) if side.size))

    def dice(self, tolerance_mm: float) -> float:
        """Return the fraction of both surfaces that lies within the tolerance of the other, 0 to 1."""
        if self.nothing:
            return math.nan
        limit = tolerance_mm * (1 + ROUNDING)
        near = self.truth_areas[self.truth_to_prediction_mm <= limit].sum()
        near += self.prediction_areas[self.prediction_to_truth_mm <= limit].sum()
        return float(near / (self.truth_areas.sum() + self.prediction_areas.sum()))

    def average_mm(self) -> float:
        """Return the mean distance over both surfaces, in mm; infinite when exactly one is empty."""
        if self.nothing:
            return math.nan
        total = (self.truth_to_prediction_mm * self.truth_areas).sum()
        total += (self.prediction_to_truth_mm * self.prediction_areas).sum()
        return float(total / (self.truth_areas.sum() + self.prediction_areas.sum()))


def surface_distances(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Triple) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks.

    Args:
        truth: Bool, (Z, Y, X); Z = 1 makes it a figure in the plane.
        prediction: Bool, the shape of `truth`.
        spacing_mm: Voxel size along (z, y, x), in mm.

    Raises:
        DataError: The shapes differ.

    Source:
        Nikolov et al. 2018, arXiv:1809.04430. What touches the edge of the array has a surface there.
    """
    check_shapes(truth, prediction)
    box = box_of(truth | prediction) or (slice(0, 0),) * truth.ndim
    spacing = tuple(spacing_mm)
    if truth.shape[0] == 1:  # a figure in the plane; one slice of a thicker volume is a thin slab with two faces
        truth, prediction, box, spacing = truth[0], prediction[0], box[1:], spacing[1:]
    codes, at = _surfels(truth[box])
    other_codes, others = _surfels(prediction[box])
    return SurfaceDistances(*_side(codes, at, others, spacing), *_side(other_codes, others, at, spacing))


def hd95_mm(truth: np.ndarray, prediction: np.ndarray, *, spacing_mm: Triple) -> float:
    """Return the larger of the two sides' 95th percentile distances (weighted by area), in mm.

    The other definition in use pools both sides before the percentile is taken; it never gives more than this one.

    Args:
        truth: Bool, (Z, Y, X).
        prediction: Bool, the shape of `truth`.
        spacing_mm: Voxel size along (z, y, x), in mm.

    Returns:
        In mm; infinite when exactly one mask is empty, nan when both are (nothing to score).
    """
    return surface_distances(truth, prediction, spacing_mm).hausdorff_mm()


def surface_dice(truth: np.ndarray, prediction: np.ndarray, *, spacing_mm: Triple, tolerance_mm: float) -> float:
    """Return the fraction of both surfaces that lies within `tolerance_mm` of the other.

    Args:
        truth: Bool, (Z, Y, X).
        prediction: Bool, the shape of `truth`.
        spacing_mm: Voxel size along (z, y, x), in mm.
        tolerance_mm: Distance that still counts as agreement, in mm.

    Returns:
        0 to 1; 0 when exactly one mask is empty, nan when both are (nothing to score).
    """
    return surface_distances(truth, prediction, spacing_mm).dice(tolerance_mm)


def assd_mm(truth: np.ndarray, prediction: np.ndarray, *, spacing_mm: Triple) -> float:
    """Return the mean distance over both surfaces (weighted by area), in mm; infinite or nan as `hd95_mm`."""
    return surface_distances(truth, prediction, spacing_mm).average_mm()


def _surfels(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # -> neighbour codes (one more than the mask along every axis), and where of them there is a surfel
    codes = _neighbour_codes(mask)
    full = 2 ** (2**mask.ndim) - 1
    return codes, (codes != 0) & (codes != full)


def _neighbour_codes(mask: np.ndarray) -> np.ndarray:
    # Bit i of a code says whether corner i of the neighbourhood is set; corners in the order of a C array.
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        window = tuple(slice(o, n - 1 + o) for o, n in zip(corner, padded.shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    return codes


def _side(codes: np.ndarray, at: np.ndarray, others: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    # -> distance of each surfel of one side to the nearest of the others, ascending, and the areas in that order
    areas = surfel_areas(spacing)[codes[at]]
    if not areas.size or not others.any():
        return np.full(areas.size, np.inf), areas
    distances = distance_transform_edt(~others, sampling=spacing)[at]
    order = np.argsort(distances, kind="stable")
    return distances[order], areas[order]


def _percentile(distances: np.ndarray, areas: np.ndarray, fraction: float) -> float:
    # The smallest distance within which `fraction` of the area lies; 0 for a side without surface.
    if not distances.size:
        return 0.0
    reached = np.cumsum(areas) / areas.sum()
    index = int(np.searchsorted(reached, fraction * (1 - ROUNDING)))
    return float(distances[min(index, len(distances) - 1)])


@lru_cache(maxsize=64)
def surfel_areas(spacing_mm: Spacing) -> np.ndarray:
    """Return the area (length in the plane) of the surface inside a neighbourhood, one for each neighbour code.

    Args:
        spacing_mm: Voxel size, in mm: three numbers for 2x2x2 neighbourhoods, two for 2x2.

    Returns:
        Float64, 256 areas in mm2, or 16 lengths in mm.
    """
    if len(spacing_mm) == 2:
        return _contour_lengths(*spacing_mm)
    codes, corners = _triangles()
    edges = (corners[:, 1:] - corners[:, :1]) * np.asarray(spacing_mm)
    areas = 0.5 * np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    return np.bincount(codes, weights=areas, minlength=256)


@lru_cache(maxsize=1)
def _triangles() -> tuple[np.ndarray, np.ndarray]:
    # -> the code and the three corners (unit spacing) of every triangle that separates set from unset voxels
    # Voxels that touch at an edge or a corner count as apart, in the mask and in its complement alike: whichever of
    # the two falls into more pieces has the smaller surface, and a surface is the same from both of its sides.
    pieces = {code: _marched(code) for code in range(1, 255)}
    size = {code: _area(corners) for code, corners in pieces.items()}
    smaller = {code: pieces[min(code, 255 - code, key=lambda i: (size[i], i))] for code in pieces}
    codes = np.repeat(list(smaller), [len(corners) for corners in smaller.values()])
    return codes, np.concatenate(list(smaller.values()))


def _marched(code: int) -> np.ndarray:
    # -> corners (n, 3, 3) of the triangles around each piece of the set voxels (joined by faces) on its own
    pieces, count = label(np.array([code >> bit & 1 for bit in range(8)]).reshape(2, 2, 2))
    corners = []
    for piece in range(1, count + 1):
        vertices, faces, _, _ = marching_cubes((pieces == piece).astype(np.float32), 0.5)
        corners.append(vertices[faces].astype(np.float64))
    return np.concatenate(corners)


def _area(corners: np.ndarray) -> float:
    edges = corners[:, 1:] - corners[:, :1]
    return round(0.5 * float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum()), 6)


def _contour_lengths(y_mm: float, x_mm: float) -> np.ndarray:
    # Contours join the middles of a neighbourhood's edges: a cut corner, a straight line, or two cut corners.
    corner = 0.5 * math.hypot(y_mm, x_mm)
    lengths = np.full(16, corner)  # one corner set, or one unset
    lengths[[0b0000, 0b1111]] = 0.0
    lengths[[0b0011, 0b1100]] = x_mm  # one row of the two
    lengths[[0b0101, 0b1010]] = y_mm  # one column
    lengths[[0b0110, 0b1001]] = 2 * corner  # a diagonal
    return lengths
