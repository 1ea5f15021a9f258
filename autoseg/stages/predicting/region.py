"""Where to look: a quick pass finds the region that holds all structures, and only that is predicted in full.

The quick pass is the coarsest network there is (a cascade's first stage where there is one), one fold, windows side by
side, nothing mirrored. It sees the resolution that it was trained at, for no network knows organs of another size. The
box around all that it finds, with a margin, is then predicted as ever: normalised as in the whole scan.
"""

from __future__ import annotations

import math

import numpy as np

from autoseg.images import regrid
from autoseg.images.orientation import reorient
from autoseg.records.geometry import Box, Shape
from autoseg.records.volumes import LabelMap, Passage

# As TotalSegmentator leaves around the organs that its rough model finds.
MARGIN_MM = 20.0


def region_on(found: LabelMap, passage: Passage, patch_shape: Shape) -> Box | None:
    """Return the part of a network's grid to predict.

    Args:
        found: What the quick pass says, in the scan's geometry.
        passage: The way of the scan to that grid.
        patch_shape: Of the network; the part is no smaller where the grid is not, so that windows see what is there.

    Returns:
        None for everything: nothing was found, or it fills the grid.
    """
    seen = reorient(found.array, passage.original, passage.oriented)[passage.crop.slices()]
    if not seen.any():
        return None
    box = regrid.nonzero_box(seen[None])
    start, stop = [], []
    for axis, size in enumerate(passage.network.shape):
        scale = size / seen.shape[axis]
        margin = MARGIN_MM / passage.oriented.spacing_mm[axis]
        low = max(0, math.floor((box.start[axis] - margin) * scale))
        high = min(size, math.ceil((box.stop[axis] + margin) * scale))
        wanted = min(patch_shape[axis], size)
        if high - low < wanted:
            low = min(max(0, (low + high - wanted) // 2), size - wanted)
            high = low + wanted
        start.append(low)
        stop.append(high)
    part = Box(start=tuple(start), stop=tuple(stop))
    return None if part.shape == passage.network.shape else part


def cut(array: np.ndarray, part: Box | None) -> np.ndarray:
    """Return a part of a network's input, (C, Z, Y, X)."""
    return array if part is None else np.ascontiguousarray(array[(slice(None), *part.slices())])
