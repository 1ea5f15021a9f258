"""The smallest boxes around what is there, as slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Slices = tuple[slice, ...]


def box_of(mask: np.ndarray) -> Slices | None:
    """Return the smallest box around the True voxels of a mask, or None where there is none.

    Args:
        mask: Bool, any number of axes.
    """
    box = []
    for axis in range(mask.ndim):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not places.size:
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def box_around(boxes: Sequence[Slices | None], values: Sequence[int]) -> Slices | None:
    """Return the smallest box that holds every one of `values`, or None where none of them occurs.

    Args:
        boxes: The box of value 1, 2, ... or None, as `scipy.ndimage.find_objects` gives them.
        values: Which values.
    """
    found = [box for box in (boxes[value - 1] for value in values) if box is not None]
    if not found:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*found, strict=True))
