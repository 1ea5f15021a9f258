"""Bringing what lies on another grid onto the image's: channels, label maps, and masks on a cutting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from autoseg.images import motions
from autoseg.images.motions import Pair
from autoseg.records.dataset import Correction
from autoseg.records.errors import DataError
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.records.registration import Motion

ALIGNED_VOXELS = 0.05  # how far a cutting may lie beside the image's voxels and still be pasted


def onto_first(
    pair: Pair, corrections: Sequence[Correction], *, channel: str, case: str, file: Path, kept: Path | None = None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return a channel on the first channel's grid, where it is valid (None: everywhere), and notes.

    Args:
        pair: The channel, and the first one.
        corrections: `register_to_first` and `resample_to_first` act here.
        channel: Its name.
        case: Whose it is.
        file: For messages.
        kept: Folder in which registrations are kept, or None.

    Raises:
        DataError: It lies on another grid and no correction says what to do.
    """
    array, source, grid = pair.moving, pair.moving_grid, pair.fixed_grid
    kinds = {item.kind for item in corrections if item.channel in (None, channel)}
    if "register_to_first" in kinds:
        motion = motions.motion_of(pair, case=case, channel=channel, kept=kept)
        return *_moved(pair, motion), (motions.in_words(motion),)
    difference = grid.difference(source)
    if difference is None:
        return array, None, ()
    if "resample_to_first" in kinds:
        from autoseg.images.regrid import resample

        moved, valid = resample(array, source, grid, order=1, fill=0.0)
        return moved.astype(np.float32, copy=False), valid, (f"resampled onto the first channel ({difference})",)
    raise DataError(
        f"channel {channel} does not lie on the grid of the first channel: {difference}",
        file=file,
        fix=f"Import with --register {channel}, or resample the file onto the first channel.",
        code="channel_geometry",
    )


def require_same_grid(found: Grid, image: Grid, *, file: Path, case: str, corrections: Sequence[Correction]) -> None:
    """Return if labels lie on the image's grid, or a correction will bring them there.

    Raises:
        DataError: They lie elsewhere; the message gives both sides.
    """
    if image.difference(found) is None or any(item.kind == "resample_labels" for item in corrections):
        return
    code, what, fix = _contrast(found, image)
    raise DataError(
        f"labels have {what}", file=file, fix=f"{fix}, or leave the case out with --skip {case}.", code=code
    )


def is_cutting(source: Grid, grid: Grid) -> bool:
    """Return whether a mask's grid can be believed to be a part of the image's: another shape, another origin.

    The image's shape elsewhere is a lost geometry. The image's origin with another shape is what a tool leaves behind
    that cuts out slices and forgets to move the origin: taken at its word, every structure would land elsewhere.
    """
    return source.shape != grid.shape and math.dist(source.origin_mm, grid.origin_mm) > 0.5 * min(grid.spacing_mm)


def nearest(array: np.ndarray, source: Grid, grid: Grid) -> np.ndarray:
    """Return labels (Z, Y, X) on `grid`, each voxel with the value of the nearest one, 0 outside."""
    from autoseg.images.regrid import resample

    moved, _ = resample(array, source, grid, order=0, fill=0)
    return np.rint(moved).astype(array.dtype)


def paint(result: np.ndarray, grid: Grid, mask: np.ndarray, source: Grid, *, value: int, file: Path) -> None:
    """Write `value` into `result` where a mask, perhaps on a cutting of the grid, is True.

    Args:
        result: (Z, Y, X) on `grid`; changed in place.
        grid: The image's.
        mask: Bool, (Z, Y, X) on `source`.
        source: The mask's grid.
        value: Inside value.
        file: For the message.

    Raises:
        DataError: The mask is not empty and lies wholly outside the image.
    """
    if grid.difference(source) is None:
        result[mask] = value
        return
    if not mask.any():
        return
    start = _aligned_start(source, grid)
    if start is not None:
        inside, cut = _overlap(start, mask.shape, grid.shape)
        placed = mask[cut]
    else:
        inside = _covering(source, grid)
        box = Box.of(inside)
        placed = nearest(mask.astype(np.uint8), source, part_of(grid, box)) > 0 if min(box.shape) > 0 else np.zeros(0)
    if not placed.any():
        raise DataError(
            f"mask lies outside of the image: its grid starts at {_numbers(source.origin_mm)} mm (x, y, z), "
            f"the image's at {_numbers(grid.origin_mm)}",
            file=file,
            fix="Was its origin lost, or does it belong to another scan? Export it again.",
            code="origin_mismatch",
        )
    result[inside][placed] = value


def part_of(grid: Grid, box: Box) -> Grid:
    """Return the grid of the voxels of `box`."""
    x, y, z = (grid.affine() @ (*box.start, 1))[:3].tolist()
    return Grid(shape=box.shape, spacing_mm=grid.spacing_mm, origin_mm=(x, y, z), direction=grid.direction)


def _moved(pair: Pair, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    from autoseg.images.register import resample_registered

    return resample_registered(pair.moving, pair.moving_grid, pair.fixed_grid, np.asarray(motion.matrix))


def _contrast(found: Grid, image: Grid) -> tuple[str, str, str]:
    if found.shape != image.shape:
        what = f"shape {found.shape} (z, y, x) but the image has {image.shape}"
        if math.dist(found.origin_mm, image.origin_mm) <= 0.5 * min(image.spacing_mm):
            what += ", and both start at the same place: were they cut without moving their origin?"
        return "shape_mismatch", what, "Check that they belong together, resample the labels onto the image"
    resample = "Resample the labels onto the image"
    if any(abs(a - b) > 1e-3 * b for a, b in zip(found.spacing_mm, image.spacing_mm, strict=True)):
        spacings = f"{_spacing(found)} mm (z, y, x) but the image has {_spacing(image)}"
        return "spacing_mismatch", f"spacing {spacings}", resample
    if not np.allclose(found.direction, image.direction, atol=1e-3):
        what = f"direction {_rows(found)} but the image has {_rows(image)}: they would be flipped or turned"
        return "direction_mismatch", what, resample
    shift = math.dist(found.origin_mm, image.origin_mm)
    what = f"origin {_numbers(found.origin_mm)} mm (x, y, z) but the image has {_numbers(image.origin_mm)}"
    return "origin_mismatch", f"{what}: {shift:.3g} mm apart", resample


def _aligned_start(source: Grid, grid: Grid) -> Shape | None:
    """Return where voxel (0, 0, 0) of `source` lies in `grid`, or None where the two are not voxel on voxel."""
    to_grid = np.linalg.inv(grid.affine()) @ source.affine()
    ends = [to_grid @ (*corner, 1) for corner in ((0, 0, 0), tuple(size - 1 for size in source.shape))]
    start = np.rint(ends[0][:3])
    stop = start + source.shape - 1
    off = max(np.abs(ends[0][:3] - start).max(), np.abs(ends[1][:3] - stop).max())
    same_axes = np.allclose(to_grid[:3, :3], np.eye(3), atol=1e-2)
    return _triple(start) if same_axes and off <= ALIGNED_VOXELS else None


def _overlap(start: Shape, shape: Sequence[int], limit: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    inside, cut = [], []
    for first, size, most in zip(start, shape, limit, strict=True):
        low, high = min(max(first, 0), most), max(min(first + size, most), 0)
        inside.append(slice(low, max(low, high)))
        cut.append(slice(low - first, max(low, high) - first) if high > low else slice(0, 0))
    return tuple(inside), tuple(cut)


def _covering(source: Grid, grid: Grid) -> tuple[slice, ...]:
    """Return the part of `grid` that holds all of `source`."""
    corners = np.array([[z, y, x, 1] for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
    corners[:, :3] = corners[:, :3] * source.shape - 0.5
    places = (np.linalg.inv(grid.affine()) @ source.affine() @ corners.T)[:3]
    low = np.clip(np.floor(places.min(axis=1)), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(places.max(axis=1)) + 1, 0, grid.shape).astype(int)
    return tuple(slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))


def _triple(values: Iterable[float]) -> Shape:
    z, y, x = (int(value) for value in values)
    return (z, y, x)


def _spacing(grid: Grid) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in grid.spacing_mm) + ")"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _rows(grid: Grid) -> str:
    return "(" + ", ".join(_numbers(row) for row in grid.direction) + ")"
