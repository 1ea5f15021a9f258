"""Random changes of training samples: a draw is a value, applying it is a function, so any batch can be replayed."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autoseg.networks.augmentation.added import apply_added
from autoseg.networks.augmentation.draws import Draw, draw, for_neighbours, identity
from autoseg.networks.augmentation.intensity import change_intensity
from autoseg.networks.augmentation.previous import corrupt
from autoseg.networks.augmentation.spatial import place, source_shape
from autoseg.records.geometry import Shape

__all__ = ["Draw", "apply", "draw", "for_neighbours", "identity", "source_shape"]


def apply(
    draws: Sequence[Draw],
    image: Tensor,
    labels: Tensor,
    patch_shape: Shape,
    *,
    previous: Tensor | None = None,
    classes: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the augmented batch, on the device of its tensors; equal draws give equal bytes on a CPU.

    The centre of the source window is the centre of the patch.

    Args:
        draws: One a sample.
        image: float32, (B, C, *source); source at least `source_shape(draws, patch_shape)`, and longer than the
            patch by an even number of voxels along each axis.
        labels: Integers, (B, *source).
        patch_shape: (z, y, x).
        previous: What the previous stage of a cascade predicted, integers, (B, *source), or None.
        classes: Structures that `previous` may hold: 1 to `classes`.

    Returns:
        image (B, C, *patch), labels (B, *patch), previous (B, *patch) or None; new tensors of the same types.
    """
    image, maps = place(draws, image, [labels] if previous is None else [labels, previous], patch_shape)
    image = change_intensity(draws, image)
    image, maps[0] = apply_added(draws, image, maps[0])
    return image, maps[0], None if previous is None else corrupt(draws, maps[1], classes)
