"""Signs of how good a prediction is: how steady it stays while the scan is changed a little.

Where a network is sure of its mistakes, its probabilities say nothing of them. What it says of the same scan, a little
blurred, brighter or larger, does: it moves most where it is wrong.

# C channel, K class or region, Z Y X voxel
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy import ndimage

from autoseg.images.fields import Output

STEADINESS = ("wobble", "texture", "contrast")
# What a change does to intensities, in standard deviations of the channel, or to sizes.
NOISE = 0.25
GAMMAS = (0.7, 1.4)
SCALES = (0.88, 1.12)
LEAST = 1e-4
# Voxels around a structure that its surroundings are read from.
AROUND = 2

Predict = Callable[[np.ndarray], np.ndarray]
"""Image (C, Z, Y, X) -> probabilities (K, Z, Y, X)."""


@dataclass
class Passes:
    """What several passes over one scan said, added up; float32 (K, Z, Y, X)."""

    total: np.ndarray
    squares: np.ndarray
    count: int = field(default=1)

    def add(self, probabilities: np.ndarray) -> None:
        """Add what one more pass says; the array is used up."""
        self.total += probabilities
        np.square(probabilities, out=probabilities)
        self.squares += probabilities
        self.count += 1

    def spread(self, row: int, box: tuple[slice, ...]) -> np.ndarray:
        """Return the standard deviation of one class over the passes, in a box."""
        mean = self.total[row][box] / np.float32(self.count)
        squares = self.squares[row][box] / np.float32(self.count)
        return np.asarray(np.sqrt(np.maximum(squares - mean * mean, 0)))


def shapes_looked_at(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return (Z, Y, X) of what a network is shown each time that `look_again` shows it a scan."""
    looks = 1 + len(_intensity_changes())
    return [tuple(shape)] * looks + [_scaled(shape, scale) for scale in SCALES]


def look_again(image: np.ndarray, predict: Predict, *, seen: int) -> Passes:
    """Return what a network says of a scan as it is, and in eight ways a little changed; the same every time.

    Blurred and sharpened, darker and brighter, with noise twice, smaller and larger.

    Args:
        image: Float32, (C, Z, Y, X), as the network takes it.
        predict: The network.
        seen: How many of the first channels are of the scanner; only these change their intensities.
    """
    first = predict(image)
    passes = Passes(first, first * first)
    for change in _intensity_changes():
        changed = image.copy()
        for channel in changed[:seen]:
            channel[...] = change(channel)
        passes.add(predict(changed))
    for scale in SCALES:
        passes.add(_resized(predict(_resized(image, _scaled(image.shape[1:], scale))), image.shape[1:]))
    return passes


def steadiness_of(passes: Passes, image: np.ndarray, *, seen: int, output: Output) -> np.ndarray:
    """Return the signs of each structure.

    wobble: Logarithm of the standard deviation of its probability over the passes, mean over where it is predicted and
        one voxel around.
    texture: Logarithm of the standard deviation of intensities inside, as the network takes them.
    contrast: Mean intensity inside less that of what is around and no structure.

    Args:
        passes: Of `look_again`.
        image: As it is, (C, Z, Y, X).
        seen: As in `look_again`; signs of intensities are means over these channels.
        output: What the classes are.

    Returns:
        Float64, (structures, 2 len(STEADINESS)): its own, and the means over the structures that were predicted, for
        what is hard in one of them is in the others; zeros where nothing was predicted.

    Source:
        Wang et al. 2019, arXiv:1807.07356 (changed copies of a scan tell what a network is unsure of).
    """
    first = 0 if output == "sigmoid" else 1
    count = len(passes.total) - first
    winner = None if output == "sigmoid" else passes.total.argmax(axis=0)
    something = np.asarray((passes.total > passes.count / 2).any(axis=0) if winner is None else winner > 0)
    own = np.full((count, len(STEADINESS)), np.nan)
    for row in range(count):
        inside = np.asarray(passes.total[row] > passes.count / 2 if winner is None else winner == row + 1)
        if inside.any():
            own[row] = _signs(passes, row + first, inside, something, image[:seen])
    if np.isnan(own).all():
        return np.zeros((count, 2 * len(STEADINESS)))
    return np.nan_to_num(np.concatenate([own, np.broadcast_to(np.nanmean(own, axis=0), own.shape)], axis=1))


def _signs(
    passes: Passes, row: int, inside: np.ndarray, something: np.ndarray, image: np.ndarray
) -> tuple[float, float, float]:
    (found,) = ndimage.find_objects(inside.astype(np.uint8))
    box = tuple(slice(max(0, s.start - AROUND - 1), s.stop + AROUND + 1) for s in found)
    mask, others, voxels = inside[box], something[box], image[(slice(None), *box)]
    spread = passes.spread(row, box)[ndimage.binary_dilation(mask)].mean()
    around = ndimage.binary_dilation(mask, iterations=AROUND) & ~others
    within = voxels[:, mask]
    apart = within.mean() - voxels[:, around].mean() if around.any() else 0.0
    return float(np.log(spread + LEAST)), float(np.log(within.std(axis=1).mean() + LEAST)), float(apart)


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
