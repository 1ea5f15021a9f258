"""Shading of MR by its coil, found and divided out (N4)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from autoseg.images import kept_fields
from autoseg.images.foreground import BRIGHTEST_PERCENT, otsu
from autoseg.images.register import itk_image, reference
from autoseg.records.geometry import Grid, Shape

SHRINK = 4  # at least: the field is smooth, and 1/64 of the voxels tell as much of it
MOST_VOXELS = 30_000  # after shrinking: the time of a search grows with them, what it finds does not
FEWEST_VOXELS = 8  # along an axis, after shrinking
ITERATIONS = (50, 50, 30)
CONVERGENCE = 1e-3


def correct_bias(array: np.ndarray, grid: Grid, *, kept: Path | None = None) -> tuple[np.ndarray, str]:
    """Return a channel without its smooth shading, and what was done, for people.

    The field is found on a shrunken image where there is signal, its logarithm interpolated to every voxel, and its
    mean in the patient is 1, so that intensities keep their scale. The same voxels give the same result every time,
    whether the field is found or was kept.

    Args:
        array: float32, (Z, Y, X), finite.
        grid: Where its voxels lie.
        kept: Folder in which fields are kept, so that each is searched for once; None searches every time.

    Source:
        Tustison et al. 2010, doi:10.1109/TMI.2010.2046908, as implemented in ITK.
    """
    low, high = float(array.min()), float(array.max())
    if low == high or high <= 0:
        return array, "bias field not corrected: the image has no contrast"
    small = sitk.Shrink(itk_image(array, grid), shrink_factors(grid)[::-1])
    inside = signal(sitk.GetArrayViewFromImage(small))
    if min(inside.shape) < 2 or inside.sum() < FEWEST_VOXELS**2:
        return array, "bias field not corrected: too few voxels show the patient"
    field = kept_fields.field_of(array, grid, kept=kept, shape=inside.shape, find=lambda: _log_field(small, inside))
    spread = np.exp(np.ptp(np.percentile(field[inside], (1, 99))))
    gain = _everywhere(-field, small, grid)
    np.exp(gain, out=gain)
    gain *= array
    return gain, f"bias field corrected (it varied by {100 * (spread - 1):.0f} %)"


def signal(values: np.ndarray) -> np.ndarray:
    """Return where there is signal: above half of Otsu's threshold, which alone would leave out darker tissue.

    Args:
        values: Float, any shape.

    Returns:
        Bool, the shape of `values`.
    """
    bright = float(np.percentile(values, BRIGHTEST_PERCENT))
    threshold = otsu(np.clip(values, 0.0, bright if bright > 0 else None))
    return np.asarray(values > (0.0 if threshold is None else threshold / 2))


def shrink_factors(grid: Grid) -> Shape:
    """Return by how much each axis (z, y, x) is shrunk: thick slices less, so that voxels become cubes.

    At least by `SHRINK`, and by more where more than `MOST_VOXELS` would be left.
    """
    for shrink in range(SHRINK, max(SHRINK, *grid.shape) + 1):
        factors = _factors(grid, shrink)
        if math.prod(size // step for size, step in zip(grid.shape, factors, strict=True)) <= MOST_VOXELS:
            break
    return factors


def _factors(grid: Grid, shrink: int) -> Shape:
    target = shrink * min(grid.spacing_mm)
    z, y, x = (
        max(1, min(shrink, round(target / spacing), size // FEWEST_VOXELS))
        for size, spacing in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    return (z, y, x)


def _log_field(image: sitk.Image, inside: np.ndarray) -> np.ndarray:
    """Return the logarithm of the field, float32 (Z, Y, X) on the shrunken grid, with mean 0 inside."""
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations(ITERATIONS)
    method.SetConvergenceThreshold(CONVERGENCE)
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # sums over several units end in another order each run
    method.Execute(image, mask)
    field = sitk.GetArrayFromImage(sitk.Cast(method.GetLogBiasFieldAsImage(image), sitk.sitkFloat32))
    return np.asarray(field - field[inside].mean(dtype=np.float64), np.float32)


def _everywhere(field: np.ndarray, small: sitk.Image, grid: Grid) -> np.ndarray:
    """Return a shrunken field at every voxel, linearly interpolated, and as at the rim beyond it; float32 (Z, Y, X)."""
    image = sitk.GetImageFromArray(field)
    image.CopyInformation(small)
    whole = sitk.Resample(image, reference(grid), sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
    return sitk.GetArrayFromImage(whole)
