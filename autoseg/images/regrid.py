"""From a scan's grid to the network's, and onto the grid of another scan.

The way home is `home.py`; interpolation on equal outer edges `resizing.py`; the order of axes `orientation.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import ndimage

from autoseg.images.boxes import box_of
from autoseg.images.orientation import orient, orient_grid, permute, permute_grid, reorient
from autoseg.images.resizing import anisotropic_axis, resize, resize_labels
from autoseg.records.configuration import Configuration, Preparation
from autoseg.records.geometry import Box, Grid, Shape, Triple
from autoseg.records.volumes import Image, LabelMap, Passage

Normalize = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def to_network(
    image: Image, labels: LabelMap | None, configuration: Configuration | Preparation, *, normalize: Normalize
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Passage]:
    """Bring a scan to the network's grid: orient, order axes, crop, normalise, resample.

    The image is resampled by a cubic spline, labels linearly per class. Where the scan's voxels or the target's are
    more than 3 times as long on one axis as on another, that axis is taken nearest by itself. An axis that needs no
    resampling is copied bit by bit.

    Args:
        image: (C, Z, Y, X) in any orientation.
        labels: On the same grid, or None.
        configuration: Its `axis_order` and `spacing_mm` are read.
        normalize: Given the cropped (C, Z, Y, X), a view, and its validity, returns network input, a new float32 array.

    Returns:
        Image float32 (C, Z, Y, X); validity bool of that shape, or None; labels (Z, Y, X), or None; the passage.
    """
    arrays = [None if array is None else orient(array, image.grid)[0] for array in (image.array, image.valid)]
    whole, valid = (None if a is None else permute(a, configuration.axis_order, (False,) * 3) for a in arrays)
    assert whole is not None
    passage = plan_passage(image.grid, nonzero_box(whole), configuration)
    cut, shape = passage.crop.slices(), passage.network.shape
    coarse = anisotropic_axis(passage.oriented.spacing_mm, _target(passage.oriented, configuration))
    # Normalise before resampling: afterwards the non-zero mask no longer fits the interpolated edge.
    if valid is not None:
        valid = np.ascontiguousarray(valid[(slice(None), *cut)])
    # What normalises makes a copy, and is the only one to hold it: a large scan is not there more than twice.
    array = resize(normalize(whole[(slice(None), *cut)], valid), shape, order=3, anisotropic_axis=coarse)
    if valid is not None:
        valid = resize(valid, shape, order=0)
    if labels is None:
        return array, valid, None, passage
    seen = reorient(labels.array, passage.original, passage.oriented)[cut]
    return array, valid, resize_labels(np.ascontiguousarray(seen), shape, anisotropic_axis=coarse), passage


def plan_passage(original: Grid, crop: Box, configuration: Configuration | Preparation) -> Passage:
    """Return the way of a scan to the network's grid, without voxels.

    Args:
        original: The scan's grid.
        crop: The part to keep, along the axes after orientation and `axis_order`.
        configuration: Its `axis_order` and `spacing_mm` are read.
    """
    oriented = permute_grid(orient_grid(original), configuration.axis_order, (False,) * 3)
    target = _target(oriented, configuration)
    z, y, x = (
        max(1, round(n * old / new)) for n, old, new in zip(crop.shape, oriented.spacing_mm, target, strict=True)
    )
    return Passage(original=original, oriented=oriented, crop=crop, network=_fit(oriented, crop, (z, y, x)))


def nonzero_box(image: np.ndarray) -> Box:
    """Return the smallest box around every voxel where any channel is not 0; the whole image when there is none.

    Args:
        image: (C, Z, Y, X).
    """
    seen = image[0] != 0
    for channel in image[1:]:
        seen |= channel != 0
    found = box_of(seen)
    return Box(start=(0, 0, 0), stop=seen.shape) if found is None else Box.of(found)


def resample(
    array: np.ndarray, source: Grid, target: Grid, *, order: Literal[0, 1, 3], fill: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies at the voxels of another grid, found through patient coordinates.

    Args:
        array: (C, Z, Y, X) or (Z, Y, X) on `source`.
        source: Any direction.
        target: Any direction.
        order: 3 cubic spline, 1 linear, 0 nearest (keeps the data type; the others give float32).
        fill: What stands outside the field of view of `source`.

    Returns:
        The array on `target`, and bool (Z, Y, X): inside the outer edges of `source`.
    """
    if source == target:
        return array.copy(), np.ones(target.shape, bool)
    way = np.linalg.inv(source.affine()) @ target.affine()
    valid = _inside(way, source.shape, target.shape)
    dtype = array.dtype if order == 0 else np.dtype(np.float32)
    result = np.empty((*array.shape[:-3], *target.shape), dtype)
    layers = zip(array[None], result[None]) if array.ndim == 3 else zip(array, result)
    for layer, out in layers:
        kept = layer.astype(dtype, copy=False)
        ndimage.affine_transform(kept, way[:3, :3], way[:3, 3], output=out, output_shape=target.shape, order=order,
                                 mode="nearest")  # fmt: skip
        out[~valid] = fill
    return result, valid


def _inside(way: np.ndarray, source: Shape, target: Shape) -> np.ndarray:
    """Return bool (Z, Y, X): target voxels whose centre lies within the outer edges of the source's voxels."""
    z, y, x = np.ogrid[: target[0], : target[1], : target[2]]
    valid = np.ones(target, bool)
    for row, size in zip(way[:3], source, strict=True):
        place = row[0] * z + row[1] * y + row[2] * x + row[3]
        valid &= (place >= -0.5 - 1e-4) & (place <= size - 0.5 + 1e-4)
    return valid


def _target(oriented: Grid, configuration: Configuration | Preparation) -> Triple:
    """Return the configuration's spacing, the scan's own where it leaves an axis as it is."""
    z, y, x = (
        old if new is None else new for old, new in zip(oriented.spacing_mm, configuration.spacing_mm, strict=True)
    )
    return (z, y, x)


def _fit(oriented: Grid, crop: Box, shape: Shape) -> Grid:
    """Return the grid of `shape` voxels with the outer edges of the crop."""
    affine = oriented.affine()
    ratio = np.divide(crop.shape, shape)
    # The first new centre lies half a new voxel from the edge, the first old one half an old voxel.
    origin = affine[:3, :3] @ (np.asarray(crop.start) + 0.5 * (ratio - 1)) + affine[:3, 3]
    spacing = tuple((np.asarray(oriented.spacing_mm) * ratio).tolist())
    return oriented.model_copy(update={"shape": shape, "spacing_mm": spacing, "origin_mm": tuple(origin.tolist())})
