"""Scans spoilt as scanners and transfers spoil them; each way takes and gives an image, chance keyed by the case.

The strengths: noise of a tenth of the range of intensities; ghosts by dampening every n-th line of k-space by half; a
bias field of third order with coefficients up to 0.5, the default of TorchIO; one axis flipped under an unchanged
header; one axis' spacing said 1.5 times too large or too small.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from autoseg.records.volumes import Image

Spoil = Callable[[Image, np.random.Generator], Image]


def spoilt(way: str, image: Image, case: str) -> Image:
    """Return the image spoilt in one of `WAYS`."""
    return WAYS[way](image, np.random.default_rng([zlib.crc32(case.encode()), zlib.crc32(way.encode())]))


def _noise(image: Image, rng: np.random.Generator) -> Image:
    low, high = np.percentile(image.array, (1, 99))
    noise = rng.normal(0, 0.1 * (high - low), image.array.shape)
    return replace(image, array=(image.array + noise).astype(np.float32))


def _ghost(image: Image, rng: np.random.Generator) -> Image:
    axis, ghosts = int(rng.integers(1, 4)), int(rng.integers(3, 7))
    size = image.array.shape[axis]
    lines = np.abs(np.fft.fftfreq(size) * size).round().astype(int)
    kept = np.where((lines % ghosts == 0) & (lines > 0.02 * size), 0.5, 1.0)
    spectrum = np.fft.fft(image.array, axis=axis) * kept.reshape([-1 if other == axis else 1 for other in range(4)])
    return replace(image, array=np.fft.ifft(spectrum, axis=axis).real.astype(np.float32))


def _bias(image: Image, rng: np.random.Generator) -> Image:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in image.grid.shape), indexing="ij")
    powers = [p for p in product(range(4), repeat=3) if sum(p) <= 3]
    field = sum(rng.uniform(-0.5, 0.5) * z**a * y**b * x**c for a, b, c in powers)
    return replace(image, array=(image.array * np.exp(field)).astype(np.float32))


def _flip(axis: int) -> Spoil:
    return lambda image, rng: replace(image, array=np.ascontiguousarray(np.flip(image.array, axis + 1)))


def _spacing(image: Image, rng: np.random.Generator) -> Image:
    spacing = list(image.grid.spacing_mm)
    spacing[int(rng.integers(0, 3))] *= float(rng.choice([2 / 3, 1.5]))
    z, y, x = spacing
    return replace(image, grid=image.grid.model_copy(update={"spacing_mm": (z, y, x)}))


WAYS: dict[str, Spoil] = {
    "noise": _noise,
    "ghost": _ghost,
    "bias": _bias,
    "flipped_z": _flip(0),
    "flipped_y": _flip(1),
    "flipped_x": _flip(2),
    "spacing": _spacing,
}
