"""Label maps as coarse surfaces that a page can draw."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import block_reduce, marching_cubes

from autoseg.images.boxes import box_of
from autoseg.records.labels import Labels
from autoseg.records.volumes import LabelMap

MOST_TRIANGLES = 4000


def scene(truth: LabelMap, prediction: LabelMap, labels: Labels) -> dict[str, Any] | None:
    """Return every structure's two surfaces for the viewer, or None for data of one slice.

    Args:
        truth: Inside values, (Z, Y, X), axes along the patient's (LPS).
        prediction: The same, on the same grid.
        labels: Names of the values.
    """
    if min(truth.grid.shape) < 2:
        return None
    size_mm = np.asarray(truth.grid.extent_mm())[::-1]
    parts = []
    for item in labels.structures:
        pair = [surface(source.array == item.value, truth.grid.spacing_mm) for source in (truth, prediction)]
        packed = [None if mesh is None else _packed(*mesh, size_mm) for mesh in pair]
        parts.append({"name": item.name, "truth": packed[0], "prediction": packed[1]})
    return {"size": size_mm.tolist(), "parts": parts}


def surface(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return points (n, 3) as (x, y, z) in mm from the grid's corner and triangles (m, 3); None for an empty mask.

    The mask is averaged over coarser cells until at most `MOST_TRIANGLES` are left: what is thinner than a cell is
    drawn thicker or thinner than it is.
    """
    found = box_of(mask)
    if found is None:
        return None
    start = np.array([part.start for part in found])
    spacing, cell = np.asarray(spacing_mm), float(max(spacing_mm))
    while True:
        factor = np.maximum(1, np.round(cell / spacing)).astype(int)
        coarse = np.pad(block_reduce(mask[found].astype(np.float32), tuple(factor), np.mean), 2)
        coarse = ndimage.gaussian_filter(coarse, 0.6)
        points, triangles, _, _ = marching_cubes(coarse, min(0.5, float(coarse.max()) / 2))
        if len(triangles) <= MOST_TRIANGLES:
            break
        cell *= max(1.2, (len(triangles) / MOST_TRIANGLES) ** 0.5)
    corner = (start + (points - 2 + 0.5) * factor) * spacing
    return corner[:, ::-1], triangles


def _packed(points: np.ndarray, triangles: np.ndarray, size_mm: np.ndarray) -> dict[str, str]:
    """Points as 16-bit fractions of the scan, triangles as 16-bit indices: a tenth of what text would take."""
    fractions = np.clip(np.round(points / size_mm * 65535), 0, 65535).astype("<u2")
    arrays = {"points": fractions, "triangles": triangles.astype("<u2")}
    return {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}
