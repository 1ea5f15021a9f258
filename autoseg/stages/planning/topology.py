"""How a patch shape and a network's strides and kernels follow from one another, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

FIRST_VOXELS_3D = 256**3
FIRST_PIXELS_2D = 2048**2
MIN_FEATURE_MAP = 4
ALIKE = 2.0  # axes whose spacings differ by less than this factor are treated alike

Numbers = tuple[float, ...]
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """A patch and the network that fits it; one number an axis, (z, y, x) or (y, x).

    Attributes:
        patch: A multiple of `divisor`.
        strides: Of each stage; the first is 1.
        kernels: Of each stage.
    """

    patch: Sizes
    strides: tuple[Sizes, ...]
    kernels: tuple[Sizes, ...]

    @property
    def divisor(self) -> Sizes:
        """What each axis of a patch must be a multiple of: the product of its strides."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def voxels(self) -> int:
        """Voxels of the patch."""
        return math.prod(self.patch)


Rule = Callable[[Sequence[int]], Topology]
"""Voxels wanted along each axis -> the network for about so many, and the patch padded to what it divides."""


def first_patch(spacing_mm: Numbers, median_shape: Numbers) -> Sizes:
    """Return the patch to start from: cubic in mm, 256^3 voxels (2048^2 in 2D), no axis longer than the median.

    Args:
        spacing_mm: Of the configuration, 2 or 3 numbers.
        median_shape: Of the cases at that spacing.
    """
    dimensions = len(spacing_mm)
    volume = FIRST_VOXELS_3D if dimensions == 3 else FIRST_PIXELS_2D
    edge_mm = (volume * math.prod(spacing_mm)) ** (1 / dimensions)
    return tuple(
        max(1, min(round(edge_mm / spacing), math.floor(size + 0.5)))
        for spacing, size in zip(spacing_mm, median_shape, strict=True)
    )


def design(spacing_mm: Numbers, size: Sequence[int], *, max_stages: int = 0) -> Topology:
    """Return the network for a patch of about `size` voxels: halve what can be halved until nothing can.

    An axis takes part while it has 8 voxels or more and its spacing is less than twice the finest that takes part;
    the last axis on its own is halved only from 12 voxels on. The kernel of an axis is 1 until its spacing is less
    than twice the finest of all, and 3 from then on.

    Args:
        spacing_mm: 2 or 3 numbers.
        size: Voxels wanted along each axis; the patch is this padded to a multiple of the divisor.
        max_stages: At most this many resolutions; 0 means no bound.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; checked against nnunetv2 2.8.1.
    """
    axes = range(len(size))
    spacing, now = [float(value) for value in spacing_mm], list(size)
    kernel = [1] * len(now)
    strides, kernels = [(1,) * len(now)], []
    while len(strides) != max_stages:
        halved = _axes_to_halve(spacing, now)
        if not halved and len(strides) == 1:
            # A U-Net needs two resolutions: a tiny image is padded until one axis can be halved.
            return design(spacing_mm, [max(voxels, 3 * MIN_FEATURE_MAP) for voxels in size], max_stages=max_stages)
        if not halved:
            break
        finest = min(spacing)
        kernel = [3 if spacing[axis] / finest < ALIKE else kernel[axis] for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            spacing[axis] *= 2
            now[axis] = math.ceil(now[axis] / 2)
    kernels.append((3,) * len(now))
    divisor = [math.prod(axis) for axis in zip(*strides, strict=True)]
    patch = tuple(math.ceil(voxels / unit) * unit for voxels, unit in zip(size, divisor, strict=True))
    return Topology(patch=patch, strides=tuple(strides), kernels=tuple(kernels))


def pyramid(spacing_mm: Numbers, size: Sequence[int], *, halvings: int, least: int = 1) -> Topology:
    """Return the network that halves the finest axis `halvings` times, and a coarser one less often.

    An axis that is r times coarser is halved log2(r) times less, to the nearest whole number, and joins late: what is
    left of every axis then covers about equal mm. The divisor is a token's edge in a vision transformer.

    Args:
        spacing_mm: 2 or 3 numbers.
        size: Voxels wanted along each axis; an axis that is too short for its halvings is halved less.
        halvings: Of the finest axis; 4 give tokens of 16 voxels.
        least: Voxels that are left of every axis that is halved.
    """
    finest = min(spacing_mm)
    skipped = [round(math.log2(spacing / finest)) for spacing in spacing_mm]
    short = [max(0, halvings - int(math.log2(max(1.0, voxels / least)))) for voxels in size]
    waits = [min(halvings, max(pair)) for pair in zip(skipped, short, strict=True)]
    if min(waits) > 0:
        waits = [wait - min(waits) for wait in waits]
    steps = [tuple(1 if step < wait else 2 for wait in waits) for step in range(halvings)]
    kernels = [tuple(1 if step < wait else 3 for wait in waits) for step in range(halvings)]
    units = [2 ** (halvings - wait) for wait in waits]
    patch = tuple(
        unit * max(least if unit > 1 else 1, math.ceil(voxels / unit)) for voxels, unit in zip(size, units, strict=True)
    )
    return Topology(patch, strides=((1,) * len(waits), *steps), kernels=(*kernels, (3,) * len(waits)))


def _axes_to_halve(spacing: Sequence[float], size: Sequence[int]) -> list[int]:
    long_enough = [axis for axis, voxels in enumerate(size) if voxels >= 2 * MIN_FEATURE_MAP]
    if not long_enough:
        return []
    finest = min(spacing[axis] for axis in long_enough)
    halved = [axis for axis in long_enough if spacing[axis] / finest < ALIKE]
    if len(halved) == 1 and size[halved[0]] < 3 * MIN_FEATURE_MAP:
        return []
    return halved


def shrinking(
    spacing_mm: Numbers, median_shape: Numbers, *, max_stages: int = 0, rule: Rule | None = None
) -> Iterator[Topology]:
    """Yield the patches to try, each with fewer voxels than the one before, until no axis can shrink.

    The axis that covers most of the median image gives way, by its divisor. The order does not depend on the memory,
    so more memory stops earlier and never at a smaller patch.

    Args:
        spacing_mm: 2 or 3 numbers.
        median_shape: Of the cases at that spacing.
        max_stages: Of a U-Net; does not count where a rule is given.
        rule: How a size becomes a network; None for a U-Net's `design`.
    """
    shape = rule or partial(design, spacing_mm, max_stages=max_stages)
    topology = shape(first_patch(spacing_mm, median_shape))
    least, stalled = math.inf, 0
    while stalled < 2 * len(median_shape):
        stalled += 1
        if topology.voxels < least:
            least, stalled = topology.voxels, 0
            yield topology
        axis = _axis_to_shrink(topology, median_shape)
        if axis is None:
            return
        # The shorter axis may pool less often, and then it can give way in finer steps.
        finer = shape(_less(topology.patch, axis, topology.divisor[axis]))
        topology = shape(_less(topology.patch, axis, finer.divisor[axis]))


def _axis_to_shrink(topology: Topology, median_shape: Numbers) -> int | None:
    able = [
        (patch / median, axis)
        for axis, (patch, median, unit) in enumerate(zip(topology.patch, median_shape, topology.divisor, strict=True))
        if patch - unit >= min(MIN_FEATURE_MAP, patch - 1) and patch > 1
    ]
    return max(able)[1] if able else None


def _less(patch: Sizes, axis: int, step: int) -> Sizes:
    return tuple(size - step if index == axis else size for index, size in enumerate(patch))
