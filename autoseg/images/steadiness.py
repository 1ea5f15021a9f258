"""Signs of how good a prediction is: how steady it stays while the scan is changed a little.

Where a network is sure of its mistakes, its probabilities say nothing of them. What it says of the same scan, a little
blurred, brighter or larger, does: it moves most where it is wrong.

# C channel, K class or region, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from autoseg.images.fields import Output

STEADINESS = ("stir", "texture", "contrast")
# What a change does to intensities, in standard deviations of the channel, or to sizes.
NOISE = 0.25
GAMMAS = (0.7, 1.4)
SCALES = (0.88, 1.12)
LEAST = 1e-4
# Voxels around a structure that its surroundings are read from.
AROUND = 2

Predict = Callable[[np.ndarray], np.ndarray]
"""Image (C, Z, Y, X) -> probabilities (K, Z, Y, X)."""


@dataclass(frozen=True)
class Place:
    """Where a structure was predicted in the scan as it is.

    Attributes:
        channel: Of its probability.
        box: Around it, wide enough for what lies around.
        inside: Bool, in the box.
        reach: Bool, in the box: inside and one voxel around.
    """

    channel: int
    box: tuple[slice, slice, slice]
    inside: np.ndarray
    reach: np.ndarray


def shapes_looked_at(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return (Z, Y, X) of what a network is shown each time that `steadiness_of` shows it a scan."""
    looks = 1 + len(_intensity_changes())
    return [tuple(shape)] * looks + [_scaled(shape, scale) for scale in SCALES]


def steadiness_of(image: np.ndarray, predict: Predict, *, seen: int, output: Output) -> np.ndarray:
    """Return the signs of each structure: what a network says of a scan as it is and in eight ways a little changed.

    Blurred and sharpened, darker and brighter, with noise twice, smaller and larger; the same every time.

    stir: Logarithm of how far its probability moves, mean over where it is predicted and one voxel around, and mean of
        these logarithms over the changes: what moves it little counts as much as what moves it far.
    texture: Logarithm of the standard deviation of intensities inside, as the network takes them.
    contrast: Mean intensity inside less that of what is around and no structure.

    Args:
        image: Float32, (C, Z, Y, X), as the network takes it.
        predict: The network.
        seen: How many of the first channels are of the scanner; only these change their intensities, and signs of
            intensities are means over them.
        output: What the classes are.

    Returns:
        Float64, (structures, 2 len(STEADINESS)): its own, and the means over the structures that were predicted, for
        what is hard in one of them is in the others; zeros where nothing was predicted.

    Source:
        Wang et al. 2019, arXiv:1807.07356 (changed copies of a scan tell what a network is unsure of).
    """
    first = predict(image)
    places, something = _places(first, output)
    moved = [_moved(first, look, places) for look in _changed_looks(image, predict, seen=seen)] if places else []
    skipped = 0 if output == "sigmoid" else 1
    own = np.full((len(first) - skipped, len(STEADINESS)), np.nan)
    for place, stir in zip(places, np.mean(moved, axis=0) if places else (), strict=True):
        own[place.channel - skipped] = (stir, *_signs(place, something, image[:seen]))
    if not places:
        return np.zeros((len(own), 2 * len(STEADINESS)))
    return np.nan_to_num(np.concatenate([own, np.broadcast_to(np.nanmean(own, axis=0), own.shape)], axis=1))


def _places(first: np.ndarray, output: Output) -> tuple[list[Place], np.ndarray]:
    """Return where each structure that was predicted lies, and where any of them does."""
    if output == "sigmoid":
        masks = [(channel, layer > 0.5) for channel, layer in enumerate(first)]
        return [_place(channel, mask) for channel, mask in masks if mask.any()], np.asarray((first > 0.5).any(axis=0))
    winner = first.argmax(axis=0)
    found = [_place(int(value), winner == value) for value in np.unique(winner) if value > 0]
    return found, np.asarray(winner > 0)


def _place(channel: int, mask: np.ndarray) -> Place:
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    z, y, x = (slice(max(0, s.start - AROUND - 1), s.stop + AROUND + 1) for s in found)
    inside = mask[z, y, x].copy()
    return Place(channel, (z, y, x), inside, ndimage.binary_dilation(inside))


def _changed_looks(image: np.ndarray, predict: Predict, *, seen: int) -> Iterator[np.ndarray]:
    """Yield what the network says of the scan in each of the ways that it is changed, on the scan's own voxels."""
    for change in _intensity_changes():
        changed = image.copy()
        for channel in changed[:seen]:
            channel[...] = change(channel)
        yield predict(changed)
    for scale in SCALES:
        yield _resized(predict(_resized(image, _scaled(image.shape[1:], scale))), image.shape[1:])


def _moved(first: np.ndarray, look: np.ndarray, places: Sequence[Place]) -> list[float]:
    found = []
    for place in places:
        here = (place.channel, *place.box)
        found.append(float(np.log(np.abs(look[here] - first[here])[place.reach].mean(dtype=np.float64) + LEAST)))
    return found


def _signs(place: Place, something: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    """Return texture and contrast."""
    voxels = image[(slice(None), *place.box)]
    within = voxels[:, place.inside]
    around = ndimage.binary_dilation(place.inside, iterations=AROUND) & ~something[place.box]
    apart = within.mean() - voxels[:, around].mean() if around.any() else 0.0
    return float(np.log(within.std(axis=1).mean() + LEAST)), float(apart)


def _intensity_changes() -> list[Callable[[np.ndarray], np.ndarray]]:
    noises = [partial(_noisy, number=number) for number in range(2)]
    return [_blurred, _sharpened, *noises, *(partial(_gamma, power=power) for power in GAMMAS)]


def _sharpened(channel: np.ndarray) -> np.ndarray:
    return np.asarray(2 * channel - _blurred(channel))


def _blurred(channel: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.uniform_filter(channel, 3, mode="nearest"))


def _noisy(channel: np.ndarray, *, number: int) -> np.ndarray:
    # Keyed by nothing but its number: a scan gets the same noise under any name.
    rng = np.random.default_rng(number)
    return channel + NOISE * channel.std() * rng.standard_normal(channel.shape, np.float32)


def _gamma(channel: np.ndarray, *, power: float) -> np.ndarray:
    low, high, mean, deviation = channel.min(), channel.max(), channel.mean(), channel.std()
    bent = ((channel - low) / max(high - low, LEAST)) ** np.float32(power)
    return np.asarray((bent - bent.mean()) / max(bent.std(), LEAST) * deviation + mean)


def _scaled(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    return tuple(max(1, round(size * scale)) for size in shape)


def _resized(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return (C, Z, Y, X) on another number of voxels with the same outer edges."""
    import torch  # here, so that a process that only prepares scans does not load it
    from torch.nn import functional

    tensor = torch.from_numpy(np.ascontiguousarray(array))[None]
    return np.asarray(functional.interpolate(tensor, size=tuple(shape), mode="trilinear")[0].numpy())
