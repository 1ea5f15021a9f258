"""Rigid registration of one channel onto another by mutual information, the same on every run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from autoseg.records.geometry import Grid

BINS = 32
SEED = 20240229
SAMPLES = 100_000  # of the fixed image, a level
LARGEST_TURN_DEGREES = 45.0
SMALLEST_GAIN = 1e-4
RIM_MM = 10.0  # how far around the body the images are compared: its skin counts, the couch does not
SHORTEST_AXIS = 4  # voxels; below, there is nothing to smooth and to shrink


@dataclass(frozen=True)
class Registration:
    """How a moving image is brought onto a fixed one.

    Attributes:
        matrix: (4, 4), from a place in the fixed image to the place in the moving image that shows the same,
            both in LPS (x, y, z, 1), mm; the identity where the registration was not accepted.
        metric_before: Negative mutual information with the geometry of the headers; lower is better.
        metric_after: The same at the end of the search.
        accepted: False where the search found nothing better, or something absurd.
    """

    matrix: np.ndarray
    metric_before: float
    metric_after: float
    accepted: bool


def register_rigid(
    moving: np.ndarray, moving_grid: Grid, fixed: np.ndarray, fixed_grid: Grid, *, mask: np.ndarray | None = None
) -> Registration:
    """Find the rigid motion that brings `moving` onto `fixed`; the two may show different contrasts.

    Args:
        moving: (Z, Y, X), finite.
        moving_grid: Where its voxels lie.
        fixed: (Z, Y, X), finite.
        fixed_grid: Where its voxels lie.
        mask: Bool, (Z, Y, X), on the fixed grid: where the two are compared; None compares everywhere.

    Returns:
        The motion, or the identity with `accepted` False.

    Source:
        Mattes et al. 2003, doi:10.1109/TMI.2003.809072 (mutual information), as implemented in ITK.
    """
    fixed_image, moving_image = itk_image(fixed, fixed_grid), itk_image(moving, moving_grid)
    where = (
        None
        if mask is None or mask.all() or not mask.any()
        else itk_image(mask.view(np.uint8), fixed_grid, sitk.sitkUInt8)
    )
    metric_of = _method(fixed_grid, where, levels=1)
    before = _metric(metric_of, _start(_grid_centre(fixed_grid)), fixed_image, moving_image)
    matrix, after = np.eye(4), before
    for start in _starts(fixed_grid, moving_grid):
        found = _search(start, fixed_image, moving_image, fixed_grid, where)
        if found is None or not _sensible(start, found, moving_grid):
            continue
        value = _metric(metric_of, found, fixed_image, moving_image)
        if value < after - SMALLEST_GAIN:
            matrix, after = _matrix(found), value
    return Registration(matrix, before, after, accepted=after < before)


def resample_registered(
    moving: np.ndarray, moving_grid: Grid, fixed_grid: Grid, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moving image on the fixed grid, linearly interpolated, and where it was measured.

    Args:
        moving: (Z, Y, X).
        moving_grid: Where its voxels lie.
        fixed_grid: Of the result.
        matrix: (4, 4), from `register_rigid`.

    Returns:
        float32 and bool, both of `fixed_grid.shape`; outside the moving image's field of view 0 and False.
    """
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    frame = reference(fixed_grid)
    image = itk_image(moving, moving_grid)
    array = sitk.GetArrayFromImage(sitk.Resample(image, frame, transform, sitk.sitkLinear, 0.0))
    field = itk_image(np.ones(moving.shape, np.uint8), moving_grid, sitk.sitkUInt8)
    valid = sitk.GetArrayFromImage(sitk.Resample(field, frame, transform, sitk.sitkNearestNeighbor, 0.0))
    return array, valid.astype(np.bool_)


def turn_degrees(matrix: np.ndarray) -> float:
    """Return the angle by which a (4, 4) rigid motion turns."""
    return math.degrees(math.acos(float(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1.0, 1.0))))


def shift_mm(matrix: np.ndarray, grid: Grid) -> float:
    """Return how far a (4, 4) motion moves the centre of a field."""
    return float(_shifts(matrix, _grid_centre(grid)[None])[0])


def corner_shift_mm(matrix: np.ndarray, grid: Grid) -> float:
    """Return how far a (4, 4) motion moves that corner of a field that it moves most: where a turn shows."""
    ends = np.array(np.meshgrid(*[(-0.5, size - 0.5) for size in grid.shape], indexing="ij")).reshape(3, -1)
    corners = grid.affine()[:3, :3] @ ends + grid.affine()[:3, 3:]
    return float(_shifts(matrix, corners.T).max())


def _shifts(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(places @ matrix[:3, :3].T + matrix[:3, 3] - places, axis=1))


def itk_image(array: np.ndarray, grid: Grid, pixel: int = sitk.sitkFloat32) -> sitk.Image:
    """Return an array (Z, Y, X) as an ITK image that knows where its voxels lie."""
    image = sitk.Cast(sitk.GetImageFromArray(array), pixel)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection([value for row in grid.direction for value in row])
    return image


def reference(grid: Grid) -> sitk.Image:
    """Return an empty ITK image on a grid, to resample onto."""
    image = sitk.Image(grid.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection([value for row in grid.direction for value in row])
    return image


def _grid_centre(grid: Grid) -> np.ndarray:
    middle = (np.asarray(grid.shape) - 1) / 2
    return np.asarray((grid.affine() @ (*middle, 1.0))[:3])


def _start(centre: np.ndarray, translation: np.ndarray | None = None) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    if translation is not None:
        transform.SetTranslation(translation.tolist())
    return transform


def _starts(fixed: Grid, moving: Grid) -> tuple[sitk.Euler3DTransform, ...]:
    """The headers' geometry first: scans of one session nearly fit; then centre on centre, for those that do not."""
    centre = _grid_centre(fixed)
    aligned = _start(centre)
    if max(_overlap_fraction(fixed, moving), _overlap_fraction(moving, fixed)) > 0.5:
        return (aligned,)
    return (aligned, _start(centre, _grid_centre(moving) - centre))


def _overlap_fraction(one: Grid, other: Grid) -> float:
    """Return the share of a coarse lattice over `one` that lies inside `other`."""
    steps = 5
    places = (np.indices((steps,) * 3).reshape(3, -1) + 0.5) / steps * np.reshape(one.shape, (3, 1)) - 0.5
    to_other = np.linalg.inv(other.affine()) @ one.affine()
    there = to_other[:3, :3] @ places + to_other[:3, 3:]
    inside = (there >= -0.5) & (there <= np.reshape(other.shape, (3, 1)) - 0.5)
    return float(inside.all(axis=0).mean())


def _method(grid: Grid, where: sitk.Image | None, *, levels: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    share = min(1.0, SAMPLES / math.prod(grid.shape))
    method.SetMetricSamplingPercentagePerLevel([min(1.0, share * 8**level) for level in reversed(range(levels))], SEED)
    if where is not None:
        method.SetMetricFixedMask(where)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # sums over several units end in another order each run
    return method


def _search(
    start: sitk.Euler3DTransform, fixed: sitk.Image, moving: sitk.Image, grid: Grid, where: sitk.Image | None
) -> sitk.Euler3DTransform | None:
    shrinks = [factor for factor in (4, 2, 1) if min(grid.shape) >= SHORTEST_AXIS * factor] or [1]
    method = _method(grid, where, levels=len(shrinks))
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=100, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrinks)
    method.SetSmoothingSigmasPerLevel([factor / 2 * min(grid.spacing_mm) for factor in shrinks[:-1]] + [0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        method.Execute(fixed, moving)
    except RuntimeError:  # the two images do not overlap, or one is constant: nothing to find from here
        return None
    return transform


def _metric(
    method: sitk.ImageRegistrationMethod, transform: sitk.Transform, fixed: sitk.Image, moving: sitk.Image
) -> float:
    method.SetInitialTransform(transform)
    try:
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        return float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return math.inf


def _matrix(transform: sitk.Euler3DTransform) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre = np.asarray(transform.GetCenter())
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _sensible(start: sitk.Euler3DTransform, found: sitk.Euler3DTransform, moving: Grid) -> bool:
    """Return whether the search stayed where a patient could have moved to."""
    shift = math.dist(start.GetTranslation(), found.GetTranslation())  # both turn around the fixed image's centre
    return turn_degrees(_matrix(found)) <= LARGEST_TURN_DEGREES and shift <= max(moving.extent_mm()) / 2
