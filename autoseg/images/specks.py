"""Stray voxels of label maps: pieces too small to be meant."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

NEIGHBOURS = np.ones((3, 3, 3), bool)


def drop_specks(array: np.ndarray, *, smallest_mm3: float, voxel_mm3: float, values: int) -> tuple[np.ndarray, str]:
    """Return a label map without pieces smaller than a volume; each becomes what most of its neighbours are.

    Args:
        array: Inside values, (Z, Y, X).
        smallest_mm3: Pieces of at least this volume stay.
        voxel_mm3: Volume of a voxel.
        values: Structures are 1..values; what is ignored (above) is left alone.

    Returns:
        The label map (the same array where nothing was dropped), and what was dropped, for people; "" for nothing.
    """
    fewest = math.ceil(smallest_mm3 / voxel_mm3 - 1e-9)
    result, pieces, voxels = array, 0, 0
    for value, box in enumerate(ndimage.find_objects(array, max_label=values), start=1):
        if box is None:
            continue
        names, count = ndimage.label(array[box] == value, NEIGHBOURS)
        sizes = np.bincount(names.ravel(), minlength=count + 1)
        small = np.flatnonzero(sizes[1:] < fewest) + 1
        if not small.size:
            continue
        if result is array:
            result = array.copy()
        places = ndimage.find_objects(names)
        for piece in small.tolist():
            within = places[piece - 1]
            here = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, within, strict=True))
            _paint_over(result, array, here, names[within] == piece)
        pieces, voxels = pieces + small.size, voxels + int(sizes[small].sum())
    said = f"{pieces} specks below {smallest_mm3:g} mm3 ({voxels:,} voxels) were removed from the labels"
    return result, said if pieces else ""


def _paint_over(result: np.ndarray, array: np.ndarray, here: tuple[slice, ...], piece: np.ndarray) -> None:
    """Give the voxels `piece` of the part `here` the value that is most frequent around them."""
    wide = tuple(
        slice(max(0, part.start - 1), min(size, part.stop + 1)) for part, size in zip(here, array.shape, strict=True)
    )
    grown = np.zeros([part.stop - part.start for part in wide], bool)
    inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(here, wide, strict=True))
    grown[inner] = piece
    rim = ndimage.binary_dilation(grown, NEIGHBOURS) & ~grown
    around = array[wide][rim]
    result[here][piece] = int(np.bincount(around).argmax()) if around.size else 0
