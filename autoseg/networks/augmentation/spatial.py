"""Rotation, scaling and mirroring as one resampling; samples that keep their grid are cut out and flipped exactly."""

# B batch, b the samples of it that are resampled, C channel, Z Y X voxel, P voxels of a patch, M maps that share a grid

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks.augmentation.draws import Draw
from autoseg.records.geometry import Shape


def source_shape(draws: Sequence[Draw], patch_shape: Shape) -> Shape:
    """Return the (z, y, x) window, centred where the patch is, that holds all that these draws look at.

    Along each axis it is longer than the patch by an even number of voxels, so that both have one centre.
    """
    half = (np.array(patch_shape) - 1) / 2
    margin = np.zeros(3, dtype=int)
    for item in draws:
        if item.moves:
            reach = np.abs(_matrix(item)) @ half
            margin = np.maximum(margin, np.ceil(reach - half - 1e-6).astype(int))
    z, y, x = (np.array(patch_shape) + 2 * margin).tolist()
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
    placed = _centre(image, patch_shape).clone(memory_format=torch.contiguous_format)
    placed_maps = [_centre(item, patch_shape).clone() for item in maps]
    for index, item in enumerate(draws):
        axes = [axis - 3 for axis, flip in enumerate(item.mirror) if flip]
        if axes and not item.moves:
            for tensor in (placed, *placed_maps):
                tensor[index] = tensor[index].flip(axes)
    moved = [index for index, item in enumerate(draws) if item.moves]
    if moved:
        _resample([draws[i] for i in moved], moved, (image, placed), list(zip(maps, placed_maps)))
    return placed, placed_maps


def _centre(tensor: Tensor, patch: Shape) -> Tensor:
    for axis, size in zip((-3, -2, -1), patch):
        start = (tensor.shape[axis] - size) // 2
        tensor = tensor.narrow(axis, start, size)
    return tensor


def _matrix(item: Draw) -> np.ndarray:
    """Return the 3x3 matrix from an offset in the patch to the offset in the source that is shown there."""
    matrix = np.eye(3)
    for axis, degrees in enumerate(item.angles_degrees):
        first, second = (other for other in range(3) if other != axis)
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = cosine, sine, -sine, cosine
        matrix = matrix @ turn
    matrix = matrix / np.array([1.0 if item.in_plane else item.scale, item.scale, item.scale])
    return matrix * np.where(item.mirror, -1.0, 1.0)


def _resample(
    draws: Sequence[Draw],
    moved: list[int],
    image: tuple[Tensor, Tensor],
    maps: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Write the samples `moved` of each (source, result) pair into the result."""
    patch = image[1].shape[2:]
    flat = all(item.in_plane for item in draws)
    axes = (1, 2) if flat else (0, 1, 2)
    offsets = _offsets(draws, [patch[axis] for axis in axes], axes, image[1].device)
    for source, result in (image, *maps):
        part = source[moved]
        if flat:
            part = _keep_slices(part, draws, patch[0])
        part = part.reshape(len(moved), -1, *part.shape[-len(axes) :])
        shown = _linear(part, offsets, patch[-len(axes) :]) if result is image[1] else _majority(part, offsets)
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
    rows = [torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2 for size in patch]
    grid = torch.stack(torch.meshgrid(*rows, indexing="ij")).flatten(1)
    matrices = np.stack([_matrix(item)[np.ix_(axes, axes)] for item in draws])
    return torch.from_numpy(matrices).float().to(device) @ grid


def _linear(values: Tensor, offsets: Tensor, patch: Sequence[int]) -> Tensor:
    """Return (b, M, *patch) of `values` (b, M, *window), bi- or trilinear."""
    window = torch.tensor(values.shape[2:], dtype=torch.float32, device=values.device)
    # With the corners of the window at -1 and 1 in the middle of its outer voxels (align_corners).
    grid = offsets / ((window - 1) / 2).clamp(min=0.5)[:, None]
    grid = grid.flip(1).movedim(1, 2).reshape(len(values), *patch, len(window))
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _majority(values: Tensor, offsets: Tensor) -> Tensor:
    """Return (b, M, P): the label with the largest linear weight at each place; the smallest of equals.

    That is the argmax over one-hot maps that were interpolated linearly. Only labels at the corners of the cell can
    win, so corners are compared with one another, and the cost does not grow with the number of classes.
    """
    index, weights = _corners(values.shape[2:], offsets)
    maps = values.shape[1]
    flat = values.flatten(2)
    corners = torch.stack([flat.gather(2, part[:, None].expand(-1, maps, -1)) for part in index])
    if values.device.type != "cpu":
        return _heaviest(corners, weights[:, :, None])
    result = corners[0].clone()
    mixed = (corners[1:] != corners[:1]).any(0)
    # Most cells lie inside one structure: on a CPU it pays to look at the others only.
    weights = weights[:, :, None].expand_as(corners)
    result[mixed] = _heaviest(corners[:, mixed], weights[:, mixed])
    return result


def _heaviest(corners: Tensor, weights: Tensor) -> Tensor:
    best, best_weight = corners[0], torch.zeros_like(corners[0], dtype=torch.float32)
    for mine in corners:
        total = sum(torch.where(other == mine, weight, 0.0) for other, weight in zip(corners, weights))
        better = (total > best_weight) | ((total == best_weight) & (mine < best))
        best, best_weight = torch.where(better, mine, best), torch.where(better, total, best_weight)
    return best


def _corners(window: Sequence[int], offsets: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the flat index (b, P) and the weight (corners, b, P) of the corners of each place's cell."""
    lower, upper, share = [], [], []
    for axis, size in enumerate(window):
        place = (offsets[:, axis] + (size - 1) / 2).clamp(0, size - 1)
        floor = place.floor()
        share.append(place - floor)
        lower.append(floor.long())
        upper.append((lower[-1] + 1).clamp(max=size - 1))
    index, weights = [], []
    for sides in itertools.product((0, 1), repeat=len(window)):
        position, weight = torch.zeros_like(lower[0]), torch.ones_like(share[0])
        for axis, side in enumerate(sides):
            position = position * window[axis] + (upper if side else lower)[axis]
            weight = weight * (share[axis] if side else 1 - share[axis])
        index.append(position)
        weights.append(weight)
    return index, torch.stack(weights)
