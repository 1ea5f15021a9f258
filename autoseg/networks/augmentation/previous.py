"""Mistakes made on purpose in the previous stage's labels, so that a cascade learns not to trust them."""

# B batch, Z Y X voxel

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks.augmentation.draws import Draw, Operation

MAX_REMOVED_FRACTION = 0.15


def corrupt(draws: Sequence[Draw], labels: Tensor, classes: int) -> Tensor:
    """Return the previous stage's labels (B, Z, Y, X) after each sample's morphology and removal.

    `labels` may be written into.

    Source:
        Isensee et al. 2021, the training of nnU-Net's cascade.
    """
    for index, item in enumerate(draws):
        rng = np.random.default_rng(item.previous_seed)
        order = (1 + rng.permutation(classes)).tolist()
        if item.previous_operation != "none":
            radii = (0 if item.in_plane else item.previous_radius, item.previous_radius, item.previous_radius)
            labels[index] = reshape_classes(labels[index], order, item.previous_operation, radii)
        if item.previous_removal:
            labels[index] = remove_pieces(labels[index], rng)
    return labels


def reshape_classes(labels: Tensor, order: Sequence[int], operation: Operation, radii: Sequence[int]) -> Tensor:
    """Return labels (Z, Y, X) whose classes grew or shrank one after the other by a box of these half-widths.

    What a class gains it takes from its neighbours; what it loses becomes background.
    """
    for value in order:
        before = labels == value
        after = _operate(before.float(), operation, radii) > 0.5
        labels = torch.where(after, value, torch.where(before, 0, labels)).to(labels.dtype)
    return labels


def _operate(mask: Tensor, operation: Operation, radii: Sequence[int]) -> Tensor:
    if operation == "dilate":
        return _grow(mask, radii)
    if operation == "erode":
        return 1 - _grow(1 - mask, radii)
    if operation == "open":
        return _grow(_operate(mask, "erode", radii), radii)
    return _operate(_grow(mask, radii), "erode", radii)


def _grow(mask: Tensor, radii: Sequence[int]) -> Tensor:
    mask = mask[None, None]
    for axis, radius in enumerate(radii):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * radius + 1, radius
        mask = functional.max_pool3d(mask, kernel, stride=1, padding=padding)
    return mask[0, 0]


def remove_pieces(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Return labels (Z, Y, X) without one connected piece, chosen among those under 15 % of the voxels."""
    array = labels.cpu().numpy()
    pieces = cc3d.connected_components(array)
    sizes = np.bincount(pieces.ravel())
    small = [piece for piece in range(1, len(sizes)) if sizes[piece] < MAX_REMOVED_FRACTION * array.size]
    if not small:
        return labels
    gone = pieces == small[int(rng.integers(len(small)))]
    return torch.from_numpy(np.where(gone, 0, array).astype(array.dtype)).to(labels.device)
