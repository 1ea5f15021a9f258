"""Rotation, scaling and mirroring as one resampling; samples that keep their grid are cut out and flipped exactly."""

# B batch, b the samples of it that are resampled, C channel, Z Y X voxel, P voxels of a patch, M maps that share a grid

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks.augmentation import turning
from autoseg.networks.augmentation.draws import Draw, Motion
from autoseg.networks.augmentation.places import Places, find_places, majority
from autoseg.records.geometry import Shape


def source_shape(draws: Sequence[Draw], patch_shape: Shape) -> Shape:
    """Return the (z, y, x) window, centred where the patch is, that holds all that these draws look at.

    Along each axis it is longer than the patch by an even number of voxels, so that both have one centre.
    """
    margins = [_margin(item.motion, patch_shape) for item in draws if item.moves]
    z, y, x = (size + 2 * max(of_axis) for size, of_axis in zip(patch_shape, zip((0, 0, 0), *margins)))
    return z, y, x


@lru_cache(maxsize=1024)
def _margin(motion: Motion, patch_shape: Shape) -> Shape:
    """Return how many voxels beyond the patch are looked at, on each side of each axis."""
    half = (np.array(patch_shape) - 1) / 2
    reach = np.abs(_motion(*motion)) @ half
    z, y, x = np.maximum(0, np.ceil(reach - half - 1e-6)).astype(int).tolist()
    return z, y, x


def place(
    draws: Sequence[Draw], image: Tensor, maps: Sequence[Tensor], patch_shape: Shape
) -> tuple[Tensor, list[Tensor]]:
    """Return image (B, C, *patch), interpolated linearly, and label maps (B, *patch), linearly per class.

    Args:
        draws: One a sample.
        image: (B, C, *source).
        maps: Integers, each (B, *source).
        patch_shape: (z, y, x).
    """
    placed = image.new_empty((*image.shape[:2], *patch_shape))
    placed_maps = [item.new_empty((len(draws), *patch_shape)) for item in maps]
    pairs = [(image, placed), *zip(maps, placed_maps)]
    on_cpu = image.device.type == "cpu"
    for index, item in enumerate(draws):
        if not item.moves:
            axes = [axis - 3 for axis, flip in enumerate(item.mirror) if flip]
            for source, result in pairs:
                part = _centre(source[index], patch_shape)
                result[index] = part.flip(axes) if axes else part
        elif on_cpu:
            # One after the other, each from its own window: what belongs to a sample then stays in the cache.
            window = source_shape([item], patch_shape)
            own, *labels = [(_centre(source[index], window), result[index]) for source, result in pairs]
            turning.resample(_matrix(item), own, labels)
    moved = [index for index, item in enumerate(draws) if item.moves and not on_cpu]
    if moved:
        _resample([draws[index] for index in moved], moved, (image, placed), pairs[1:])
    return placed, placed_maps


def _centre(tensor: Tensor, patch: Shape) -> Tensor:
    """Return as much of the middle (..., Z, Y, X) as there is."""
    for axis, wanted in zip((-3, -2, -1), patch):
        size = min(wanted, tensor.shape[axis])
        start = (tensor.shape[axis] - size) // 2
        tensor = tensor.narrow(axis, start, size)
    return tensor


def _matrix(item: Draw) -> np.ndarray:
    """Return the 3x3 matrix from an offset in the patch to the offset in the source that is shown there."""
    return _motion(*item.motion)


@lru_cache(maxsize=1024)
def _motion(
    angles_degrees: tuple[float, float, float], scale: float, mirror: tuple[bool, bool, bool], in_plane: bool
) -> np.ndarray:
    matrix = np.eye(3)
    for axis, degrees in enumerate(angles_degrees):
        first, second = (other for other in range(3) if other != axis)
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = cosine, sine, -sine, cosine
        matrix = matrix @ turn
    matrix = matrix / np.array([1.0 if in_plane else scale, scale, scale])
    matrix = matrix * np.where(mirror, -1.0, 1.0)
    matrix.setflags(write=False)  # the same array is given out again
    return matrix


def _resample(
    draws: Sequence[Draw],
    moved: list[int],
    image: tuple[Tensor, Tensor],
    maps: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Write the samples `moved` of each (source, result) pair into the result, all at once, as a card has it."""
    patch = image[1].shape[2:]
    flat = all(item.in_plane for item in draws)
    axes = (1, 2) if flat else (0, 1, 2)
    offsets = _offsets(draws, [patch[axis] for axis in axes], axes, image[1].device)
    places: Places | None = None
    for source, result in (image, *maps):
        part = source[moved]
        if flat:
            part = _keep_slices(part, draws, patch[0])
        part = part.reshape(len(moved), -1, *part.shape[-len(axes) :])
        if result is image[1]:
            shown = _linear(part, offsets, patch[-len(axes) :])
        else:
            places = places or find_places(part.shape[2:], offsets)
            shown = majority(part, places)
        result[moved] = shown.reshape(len(moved), *result.shape[1:])


def _keep_slices(part: Tensor, draws: Sequence[Draw], size: int) -> Tensor:
    """Return the middle `size` slices, flipped where drawn: all that happens along z where nothing moves along it."""
    part = part.narrow(-3, (part.shape[-3] - size) // 2, size)
    for index, item in enumerate(draws):
        if item.mirror[0]:
            part[index] = part[index].flip(-3)
    return part


def _offsets(draws: Sequence[Draw], patch: Sequence[int], axes: Sequence[int], device: torch.device) -> Tensor:
    """Return float32 (b, axes, P): where each voxel of the patch looks, in voxels from the centre of the source."""
    matrices = np.stack([_matrix(item)[np.ix_(axes, axes)] for item in draws])
    return torch.from_numpy(matrices).float().to(device) @ _grid(tuple(patch), device)


@lru_cache(maxsize=4)
def _grid(patch: tuple[int, ...], device: torch.device) -> Tensor:
    """Return float32 (axes, P): the voxels of a patch from its centre; never written into."""
    rows = [torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2 for size in patch]
    return torch.stack(torch.meshgrid(*rows, indexing="ij")).flatten(1)


def _linear(values: Tensor, offsets: Tensor, patch: Sequence[int]) -> Tensor:
    """Return (b, M, *patch) of `values` (b, M, *window), bi- or trilinear."""
    window = torch.tensor(values.shape[2:], dtype=torch.float32, device=values.device)
    # With the corners of the window at -1 and 1 in the middle of its outer voxels (align_corners).
    grid = offsets / ((window - 1) / 2).clamp(min=0.5)[:, None]
    grid = grid.flip(1).movedim(1, 2).reshape(len(values), *patch, len(window))
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=True)
