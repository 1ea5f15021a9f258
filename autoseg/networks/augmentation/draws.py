"""Chance, split from action: what happens to one sample, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from autoseg.records.geometry import Shape
from autoseg.records.preset import Augmentation

ANISOTROPIC_RATIO = 3.0
CHANNEL_PROBABILITY = 0.5
MAX_RADIUS = 5
NUMBERS, NUMBERS_PER_CHANNEL = 21, 8

Operation = Literal["none", "dilate", "erode", "open", "close"]
PerChannel = tuple[float, ...]
# Angles, scale, mirror and in_plane of a draw.
Motion = tuple[tuple[float, float, float], float, tuple[bool, bool, bool], bool]

OPERATIONS: tuple[Operation, ...] = ("dilate", "erode", "open", "close")


@dataclass(frozen=True)
class Draw:
    """What happens to one sample.

    Attributes:
        angles_degrees: Rotation about the (z, y, x) axis.
        scale: Size of things afterwards over before.
        mirror: Whether the (z, y, x) axis is flipped.
        in_plane: Rotation, scaling and low resolution leave the z axis alone.
        noise_std: Of Gaussian noise, 0 for none.
        noise_seed: Of that noise.
        blur_sigma: Of a Gaussian blur in voxels, a channel; 0 for none.
        brightness: Factor, a channel.
        contrast: Factor of the distance from the mean, a channel.
        low_resolution: Voxels kept along an axis over voxels there, a channel; 1 for none.
        inverted_gamma: Exponent on the inverted image, a channel; 1 for none.
        gamma: Exponent, a channel; 1 for none.
        dropped: Whether each channel is to be left out, where it is optional; empty for none.
        previous_operation: Morphology on the previous stage's labels.
        previous_radius: Of that operation, in voxels.
        previous_removal: Whether a piece of the previous stage's labels is removed.
        previous_seed: Of the order of classes and of the piece that goes.
        added: Transforms of installed packages that strike, each with the seed of its chance.
    """

    angles_degrees: tuple[float, float, float]
    scale: float
    mirror: tuple[bool, bool, bool]
    in_plane: bool
    noise_std: float
    noise_seed: int
    blur_sigma: PerChannel
    brightness: PerChannel
    contrast: PerChannel
    low_resolution: PerChannel
    inverted_gamma: PerChannel
    gamma: PerChannel
    dropped: tuple[bool, ...] = ()
    previous_operation: Operation = "none"
    previous_radius: int = 0
    previous_removal: bool = False
    previous_seed: int = 0
    added: tuple[tuple[str, int], ...] = ()

    @property
    def moves(self) -> bool:
        """Whether voxels have to be interpolated."""
        return self.scale != 1 or any(self.angles_degrees)

    @property
    def motion(self) -> Motion:
        """All that says where a voxel is looked up."""
        return self.angles_degrees, self.scale, self.mirror, self.in_plane


def identity(channels: int, *, in_plane: bool = False) -> Draw:
    """Return the draw that changes nothing."""
    ones, zeros = (1.0,) * channels, (0.0,) * channels
    return Draw(
        angles_degrees=(0.0, 0.0, 0.0),
        scale=1.0,
        mirror=(False, False, False),
        in_plane=in_plane,
        noise_std=0.0,
        noise_seed=0,
        blur_sigma=zeros,
        brightness=ones,
        contrast=ones,
        low_resolution=ones,
        inverted_gamma=ones,
        gamma=ones,
    )


def for_neighbours(draw: Draw, count: int) -> Draw:
    """Return the draw for slices with `count` neighbours on each side as channels: all slices change alike."""
    if count == 0:
        return draw
    names = ("blur_sigma", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
    return replace(draw, **{name: getattr(draw, name) * (2 * count + 1) for name in names})


def draw(
    rng: np.random.Generator,
    settings: Augmentation,
    *,
    patch_shape: Shape,
    mirror_axes: Sequence[int],
    channels: int,
    previous: bool = False,
) -> Draw:
    """Return what happens to one sample.

    The generator is asked for the same count of numbers whatever comes out, so that a later draw does not depend on
    an earlier one's luck. Blur and low resolution strike each channel of a struck sample with probability 1/2 (all of
    them where that leaves none); the other changes strike all channels, each with a strength of its own.

    Args:
        rng: Keyed by the caller.
        settings: Probabilities and ranges. `noise_variance` is the range of the noise's standard deviation, as the
            transform of that name has it in nnU-Net.
        patch_shape: (z, y, x); z = 1 in 2D. Where y or x is more than 3 times z, nothing moves along z. How far a
            patch of this shape may turn is the planner's decision: `rotation_degrees` is taken as it stands.
        mirror_axes: Axes that may be flipped: 0 z, 1 y, 2 x.
        channels: Image channels.
        previous: Whether the sample has labels of a previous stage.

    Source:
        Probabilities and ranges: Isensee et al. 2021, supplement.
    """
    luck: Iterator[float] = iter(rng.random(NUMBERS + NUMBERS_PER_CHANNEL * channels).tolist())
    seeds = rng.integers(0, 2**31, 2)
    in_plane = max(patch_shape) / patch_shape[0] > ANISOTROPIC_RATIO or patch_shape[0] == 1
    angles = _angles(luck, settings, in_plane)
    scale = _scale(luck, settings)
    mirror = [axis in mirror_axes and u < settings.mirror_probability for axis, u in zip(range(3), luck)]
    noise = _uniform(next(luck), settings.noise_variance) if next(luck) < settings.noise_probability else 0.0
    each = (luck, channels)
    # Drawn last and only where it is asked for, so that runs without it keep their draws.
    dropped = _dropped(rng.random(1 + channels).tolist(), settings) if settings.channel_dropout_probability else ()
    added = _added(rng, settings) if settings.added else ()
    return Draw(
        angles_degrees=angles,
        scale=scale,
        mirror=(mirror[0], mirror[1], mirror[2]),
        in_plane=in_plane,
        noise_std=noise,
        noise_seed=int(seeds[0]),
        blur_sigma=_some(*each, settings.blur_probability, settings.blur_sigma, none=0.0),
        low_resolution=_some(*each, settings.low_resolution_probability, settings.low_resolution_range, none=1.0),
        brightness=_all(*each, settings.brightness_probability, settings.brightness_range),
        contrast=_all(*each, settings.contrast_probability, settings.contrast_range),
        inverted_gamma=_all(*each, settings.inverted_gamma_probability, settings.gamma_range),
        gamma=_all(*each, settings.gamma_probability, settings.gamma_range),
        dropped=dropped,
        previous_operation=_operation(luck, settings) if previous else "none",
        previous_radius=1 + math.floor(next(luck) * MAX_RADIUS) if previous else 0,
        previous_removal=previous and next(luck) < settings.previous_removal_probability,
        previous_seed=int(seeds[1]),
        added=added,
    )


def _angles(luck: Iterator[float], settings: Augmentation, in_plane: bool) -> tuple[float, float, float]:
    struck = next(luck) < settings.rotation_probability
    limit = settings.rotation_degrees
    z, y, x = (_uniform(next(luck), (-limit, limit)) for _ in range(3))
    if not struck:
        return (0.0, 0.0, 0.0)
    return (z, 0.0, 0.0) if in_plane else (z, y, x)


def _scale(luck: Iterator[float], settings: Augmentation) -> float:
    struck, u = next(luck) < settings.scaling_probability, next(luck)
    return _balanced(u, settings.scaling_range) if struck else 1.0


def _dropped(luck: list[float], settings: Augmentation) -> tuple[bool, ...]:
    """Return which channels a struck sample loses: each with probability 1/2."""
    struck, *each = luck
    return tuple(struck < settings.channel_dropout_probability and u < CHANNEL_PROBABILITY for u in each)


def _added(rng: np.random.Generator, settings: Augmentation) -> tuple[tuple[str, int], ...]:
    """Return the added transforms that strike, in the order of their names: a preset's order changes no run."""
    names = sorted(settings.added)
    luck, seeds = rng.random(len(names)), rng.integers(0, 2**31, len(names))
    return tuple(
        (name, int(seed)) for name, u, seed in zip(names, luck, seeds, strict=True) if u < settings.added[name]
    )


def _operation(luck: Iterator[float], settings: Augmentation) -> Operation:
    struck, u = next(luck) < settings.previous_morphology_probability, next(luck)
    return OPERATIONS[math.floor(u * len(OPERATIONS))] if struck else "none"


def _some(
    luck: Iterator[float], channels: int, probability: float, limits: tuple[float, float], *, none: float
) -> PerChannel:
    struck = next(luck) < probability
    chosen = [next(luck) < CHANNEL_PROBABILITY for _ in range(channels)]
    values = [_uniform(next(luck), limits) for _ in range(channels)]
    return tuple(v if struck and (c or not any(chosen)) else none for v, c in zip(values, chosen))


def _all(luck: Iterator[float], channels: int, probability: float, limits: tuple[float, float]) -> PerChannel:
    struck = next(luck) < probability
    values = [_balanced(next(luck), limits) for _ in range(channels)]
    return tuple(value if struck else 1.0 for value in values)


def _uniform(u: float, limits: tuple[float, float]) -> float:
    return limits[0] + u * (limits[1] - limits[0])


def _balanced(u: float, limits: tuple[float, float]) -> float:
    """Return a factor that is as often below 1 as above, where the limits allow both."""
    low, high = limits
    if not low < 1 < high:
        return _uniform(u, limits)
    return _uniform(2 * u, (low, 1.0)) if u < 0.5 else _uniform(2 * u - 1, (1.0, high))
