"""Small records made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoseg.records.configuration import Architecture, Configuration, MemoryEstimate, Normalization
from autoseg.records.geometry import Grid, Matrix
from autoseg.records.preset import Recipe


def configuration(**changes: Any) -> Configuration:
    facts: dict[str, Any] = {
        "name": "unet_3d",
        "preset": "unet",
        "axis_order": (0, 1, 2),
        "spacing_mm": (1.0, 1.0, 1.0),
        "patch_shape": (8, 8, 8),
        "median_shape": (8, 8, 8),
        "normalizations": (Normalization(channel="MR", kind="none"),),
        "mirror_axes": (0, 1, 2),
        "batch_dice": False,
        "batch_size": 2,
        "architecture": Architecture(kind="unet", dimensions=3, input_channels=1, output_channels=3, arguments={}),
        "recipe": Recipe(),
        "memory": MemoryEstimate(peak_bytes=1, parameters=1, step_flops=1.0),
        "data_key": "key",
    }
    return Configuration(**(facts | changes))


def oblique(degrees: float, *, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Matrix:
    """A direction: a rotation by `degrees` about z, columns permuted by `order` and negated by `flips`."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    columns = turn[:, list(order)] * np.where(flips, -1.0, 1.0)
    return tuple(tuple(float(v) for v in row) for row in columns)


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1, 1, 1), **more: Any) -> Grid:
    return Grid(shape=shape, spacing_mm=spacing_mm, **more)


def identity(array: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)
