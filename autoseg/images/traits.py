"""What a scan looks like in a few numbers: grid, noise, ghosts, intensities, shading, and what lies where.

Simple statistics of the image tell foreign scans better than most networks do (Frolova et al. 2022, arXiv:2212.06506).
They are relative to the scan's own range of intensities, except in CT, whose unit means something.

# C channel, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import ndimage

from autoseg.images.orientation import orient
from autoseg.images.regrid import nonzero_box
from autoseg.records.volumes import Image

# Noise and ghosts are read in the middle of a scan; more voxels tell nothing new.
MIDDLE = 128
# Distributions are read from so many voxels along each axis.
COARSE = 96
BLOCKS = 6
LEAST = 1e-4
# Shorter axes have no spectrum and no neighbours to speak of.
SHORTEST = 8
QUANTILES = (5, 25, 50, 75, 95)
# What the differences along three axes (binomial weights) do to the standard deviation of white noise.
GAIN = {1: 2**0.5, 2: 2.0, 3: 8**0.5}

Traits = dict[str, np.ndarray]


def traits(image: Image, kinds: Sequence[str]) -> Traits:
    """Return aspect -> numbers, float64; nan for a channel that was not measured.

    Args:
        image: A corrected scan in its own geometry.
        kinds: Kind of each channel; `ct` is in HU.
    """
    array, grid = orient(image.array, image.grid)
    box = nonzero_box(array)
    spacing = np.array(grid.spacing_mm)
    found: Traits = {"spacing": np.log(spacing), "field of view": np.log(spacing * box.shape)}
    measured = [image.valid is None or bool(image.valid[index].any()) for index in range(len(array))]
    channels = [
        _of_channel(channel[box.slices()], kind) if known else None
        for channel, kind, known in zip(array, kinds, measured, strict=True)
    ]
    sizes = {name: len(numbers) for name, numbers in _of_channel(np.zeros((1, 1, 1), np.float32), "mr").items()}
    for name, size in sizes.items():
        rows = [np.full(size, np.nan) if item is None else item[name] for item in channels]
        found[name] = np.concatenate(rows)
    return found


def _of_channel(voxels: np.ndarray, kind: str) -> Traits:
    coarse = _coarse(voxels)
    low, high = (float(value) for value in np.percentile(coarse, (1, 99)))
    span = max(high - low, LEAST)
    middle = (_middle(voxels).astype(np.float32) - low) / span
    blocks = _block_means((np.clip(coarse, low - span / 2, high + span / 2) - low) / span)
    quantiles = np.percentile(coarse, QUANTILES)
    bright = np.log(np.maximum(_block_quantiles((coarse - low) / span, 75), 0.05))
    noise = _noise(middle)
    return {
        "noise": noise[:1],
        "sharpness": noise[1:],
        "ghosts": _combs(middle),
        "intensities": quantiles.astype(np.float64) if kind == "ct" else (quantiles - low) / span,
        "shading": _smooth_part(bright, order=2)[1:],
        "layout": _smooth_part(blocks, order=3),
    }


def _coarse(voxels: np.ndarray) -> np.ndarray:
    return voxels[tuple(slice(None, None, max(1, size // COARSE)) for size in voxels.shape)]


def _middle(voxels: np.ndarray) -> np.ndarray:
    start = [max(0, (size - MIDDLE) // 2) for size in voxels.shape]
    return voxels[tuple(slice(first, first + MIDDLE) for first in start)]


def _noise(voxels: np.ndarray) -> np.ndarray:
    """Return logarithms of the noise, and of the usual step along each axis, as shares of the range.

    Differences along every axis in turn take out what is smooth along any of them; the median leaves out edges, and
    air of nothing but zeros is left out of it.

    Source: after Immerkaer 1996, doi:10.1006/cviu.1996.0060.
    """
    long = [axis for axis in range(3) if voxels.shape[axis] >= SHORTEST]
    rough, level = voxels, voxels
    for axis in long:
        rough, level = np.diff(rough, axis=axis), _pairs(level, axis)
    signal = rough[level > 0.02]
    noise = np.median(np.abs(signal)) / (0.6745 * GAIN.get(len(long), 1.0)) if long and signal.size else 0.0
    steps = [np.mean(np.abs(np.diff(voxels, axis=axis))) if axis in long else 0.0 for axis in range(3)]
    return np.log(np.maximum(np.array([noise, *steps], np.float64), LEAST))


def _pairs(voxels: np.ndarray, axis: int) -> np.ndarray:
    size = voxels.shape[axis]
    return (np.take(voxels, range(size - 1), axis) + np.take(voxels, range(1, size), axis)) / 2


def _combs(voxels: np.ndarray) -> np.ndarray:
    """Return for each axis by how much single frequencies stand out of their neighbours, as logarithms.

    A scan that repeats itself at equal steps, as breathing and pulse make it, has a comb in its spectrum.
    """
    found = []
    for axis in range(3):
        if voxels.shape[axis] < 2 * SHORTEST:
            found += [0.0, 0.0]
            continue
        power = np.abs(np.fft.rfft(voxels - voxels.mean(), axis=axis)) ** 2
        along = np.log(power.mean(tuple(other for other in range(3) if other != axis)) + 1e-9)[1:]
        apart = along - ndimage.median_filter(along, 5, mode="nearest")
        found += [float(np.log(np.abs(apart).max() + 0.05)), float(np.log(apart.std() + 0.03))]
    return np.array(found)


def _edges(size: int) -> np.ndarray:
    return np.linspace(0, size, min(BLOCKS, size) + 1).astype(int)


def _block_means(voxels: np.ndarray) -> np.ndarray:
    blocks = voxels.astype(np.float64)
    for axis in range(3):
        edges = _edges(voxels.shape[axis])
        widths = np.diff(edges).reshape([-1 if other == axis else 1 for other in range(3)])
        blocks = np.add.reduceat(blocks, edges[:-1], axis=axis) / widths
    return blocks


def _block_quantiles(voxels: np.ndarray, percent: float) -> np.ndarray:
    z, y, x = (_edges(size) for size in voxels.shape)
    blocks = np.empty((len(z) - 1, len(y) - 1, len(x) - 1))
    for place in np.ndindex(blocks.shape):
        i, j, k = place
        blocks[place] = np.percentile(voxels[z[i] : z[i + 1], y[j] : y[j + 1], x[k] : x[k + 1]], percent)
    return blocks


def _smooth_part(blocks: np.ndarray, *, order: int) -> np.ndarray:
    """Return the coefficients of the polynomial of the axes, each from -1 to 1, that fits best; the constant first."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in blocks.shape), indexing="ij")
    powers = sorted((p for p in product(range(order + 1), repeat=3) if sum(p) <= order), key=sum)
    terms = [(z**a * y**b * x**c).ravel() for a, b, c in powers]
    return np.linalg.lstsq(np.stack(terms, axis=1), blocks.ravel(), rcond=None)[0]
