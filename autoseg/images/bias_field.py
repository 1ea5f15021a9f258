"""Shading of MR by its coil, found and divided out (N4)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from autoseg.images.foreground import BRIGHTEST_PERCENT, otsu
from autoseg.images.register import itk_image
from autoseg.records.geometry import Grid, Shape

SHRINK = 4  # the field is smooth: 1/64 of the voxels tell as much of it
FEWEST_VOXELS = 8  # along an axis, after shrinking
ITERATIONS = (50, 50, 30)
CONVERGENCE = 1e-3


def correct_bias(array: np.ndarray, grid: Grid) -> tuple[np.ndarray, str]:
    """Return a channel without its smooth shading, and what was done, for people.

    The field is found on a shrunken image where there is signal, its logarithm interpolated to every voxel, and its
    mean in the patient is 1, so that intensities keep their scale. The same voxels give the same result every time.

    Args:
        array: float32, (Z, Y, X), finite.
        grid: Where its voxels lie.

    Source:
        Tustison et al. 2010, doi:10.1109/TMI.2010.2046908, as implemented in ITK.
    """
    low, high = float(array.min()), float(array.max())
    if low == high or high <= 0:
        return array, "bias field not corrected: the image has no contrast"
    steps = shrink_factors(grid)
    small = sitk.Shrink(itk_image(array, grid), steps[::-1])
    values = sitk.GetArrayViewFromImage(small)
    inside = signal(values)
    if min(inside.shape) < 2 or inside.sum() < FEWEST_VOXELS**2:
        return array, "bias field not corrected: too few voxels show the patient"
    field = _log_field(small, inside)
    shift = float(sitk.GetArrayViewFromImage(field)[inside].mean())
    whole = sitk.Resample(field, itk_image(array, grid), sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
    gain = np.exp(shift - sitk.GetArrayViewFromImage(whole))
    spread = np.exp(np.ptp(np.percentile(sitk.GetArrayViewFromImage(field)[inside], (1, 99))))
    corrected = array * gain.astype(np.float32, copy=False)
    return corrected, f"bias field corrected (it varied by {100 * (spread - 1):.0f} %)"


def signal(values: np.ndarray) -> np.ndarray:
    """Return where there is signal: above half of Otsu's threshold, which alone would leave out darker tissue."""
    bright = float(np.percentile(values, BRIGHTEST_PERCENT))
    threshold = otsu(np.clip(values, 0.0, bright if bright > 0 else None))
    return np.asarray(values > (0.0 if threshold is None else threshold / 2))


def shrink_factors(grid: Grid) -> Shape:
    """Return by how much each axis (z, y, x) is shrunk: thick slices less, so that voxels become cubes."""
    target = SHRINK * min(grid.spacing_mm)
    z, y, x = (
        max(1, min(SHRINK, round(target / spacing), size // FEWEST_VOXELS))
        for size, spacing in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    return (z, y, x)


def _log_field(image: sitk.Image, inside: np.ndarray) -> sitk.Image:
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations(ITERATIONS)
    method.SetConvergenceThreshold(CONVERGENCE)
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # sums over several units end in another order each run
    method.Execute(image, mask)
    return sitk.Cast(method.GetLogBiasFieldAsImage(image), sitk.sitkFloat32)
