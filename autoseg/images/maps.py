"""Numbers of the network's grid in the scan's own geometry, for people to look at."""

from __future__ import annotations

import numpy as np

from autoseg.images.orientation import reorient
from autoseg.images.resizing import resize
from autoseg.records.volumes import Passage


def at_home(field: np.ndarray, passage: Passage) -> np.ndarray:
    """Return what a field says at each voxel of the scan, linearly interpolated; 0 outside the crop.

    Args:
        field: Float, (Z, Y, X), on `passage.network`.
        passage: The way of the scan to the network's grid.

    Returns:
        float32, (Z, Y, X), on `passage.original`.
    """
    whole = np.zeros(passage.oriented.shape, np.float32)
    whole[passage.crop.slices()] = resize(field[None].astype(np.float32), passage.crop.shape, order=1)[0]
    return np.ascontiguousarray(reorient(whole, passage.oriented, passage.original))
