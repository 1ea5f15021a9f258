"""Measures how fast a device makes samples: draws them, cuts them out and changes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from autoseg.networks import augmentation
from autoseg.networks.stopwatch import rate, shortest
from autoseg.records.calibration import Kind, Rate
from autoseg.records.preset import Augmentation

# Voxels along an axis of the samples, by dimensions.
SAMPLE_EDGES = {2: (48, 192), 3: (16, 48)}
BLOCK = 12


def sample_rates(device: torch.device) -> Iterator[Rate]:
    """Time what makes a batch: a bare sample, and each change by itself, less the bare sample."""
    for dimensions, edges in SAMPLE_EDGES.items():
        plain = augmentation.identity(1, in_plane=dimensions == 2)
        angles = (20.0, 0.0, 0.0) if dimensions == 2 else (20.0, 20.0, 20.0)
        changes: dict[Kind, augmentation.Draw] = {
            "sample": plain,
            "place": replace(plain, angles_degrees=angles, scale=1.1),
            "blur": replace(plain, blur_sigma=(0.8,)),
            "low_resolution": replace(plain, low_resolution=(0.7,)),
            "intensity": replace(plain, gamma=(1.2,)),
        }
        points: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in changes}
        for edge in edges:
            shape = (1 if dimensions == 2 else edge, edge, edge)
            bare = shortest(lambda: _augment(plain, shape, device), device)  # noqa: B023
            for kind, change in changes.items():
                taken = bare if kind == "sample" else shortest(lambda: _augment(change, shape, device), device) - bare  # noqa: B023
                points[kind].append((math.prod(shape), max(taken, 0.05 * bare)))
        for kind, found in points.items():
            yield rate(kind, 2 if dimensions == 2 else 3, 0, found)


def _augment(change: augmentation.Draw, shape: tuple[int, int, int], device: torch.device) -> None:
    augmentation.draw(
        np.random.default_rng([0, 0, 0]), Augmentation(), patch_shape=shape, mirror_axes=(0, 1, 2), channels=1
    )
    source = augmentation.source_shape([change], shape)
    image = torch.zeros(1, 1, *source, device=device)
    # Blocks of a structure: where two labels meet, resampling has to weigh them.
    places = (torch.arange(size, device=device) // BLOCK for size in source)
    labels = (sum(torch.meshgrid(*places, indexing="ij")) % 2).to(torch.uint8)[None]  # type: ignore[union-attr]
    augmentation.apply([change], image, labels, shape, classes=1)
