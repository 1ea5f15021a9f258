"""Changes of intensity, for the whole batch on its device, with strengths per sample and channel."""

# B batch, b the samples of it that a change strikes, C channel, Z Y X voxel

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks.augmentation.draws import Draw

SPACE = (2, 3, 4)
BLUR_REACH = 3.0
TINY = 1e-7

Change = Callable[[Tensor, Tensor], Tensor]


def change_intensity(draws: Sequence[Draw], image: Tensor) -> Tensor:
    """Return the image (B, C, Z, Y, X) after noise, blur, brightness, contrast, low resolution and gamma.

    `image` may be written into.
    """
    _add_noise(draws, image)
    reach = math.ceil(BLUR_REACH * max(max(item.blur_sigma) for item in draws))
    _strike(image, [item.blur_sigma for item in draws], 0.0, lambda part, sigma: blur(part, sigma, reach))
    _strike(image, [item.brightness for item in draws], 1.0, brighten)
    _strike(image, [item.contrast for item in draws], 1.0, stretch_contrast)
    for index, item in enumerate(draws):
        for channel, fraction in enumerate(item.low_resolution):
            if fraction != 1:
                image[index, channel] = coarsen(image[index, channel], fraction, in_plane=item.in_plane)
    _strike(image, [item.inverted_gamma for item in draws], 1.0, lambda part, gamma: -bend(-part, gamma))
    _strike(image, [item.gamma for item in draws], 1.0, bend)
    return image


def _strike(image: Tensor, strengths: Sequence[tuple[float, ...]], none: float, change: Change) -> None:
    """Change those samples whose strengths are not all `none`; strengths arrive as (b, C, 1, 1, 1)."""
    struck = [index for index, values in enumerate(strengths) if any(value != none for value in values)]
    if struck:
        values = torch.tensor([strengths[index] for index in struck], device=image.device)
        image[struck] = change(image[struck], values[:, :, None, None, None])


def _add_noise(draws: Sequence[Draw], image: Tensor) -> None:
    for index, item in enumerate(draws):
        if item.noise_std > 0:
            # Drawn on the CPU: a run sees the same noise on every device.
            generator = torch.Generator().manual_seed(item.noise_seed)
            noise = torch.randn(image.shape[1:], generator=generator)
            image[index] += noise.to(image.device, non_blocking=True) * item.noise_std


def blur(image: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Return the image after a Gaussian of `sigma` voxels (b, C, 1, 1, 1) along each axis; edges are repeated.

    `reach` is the kernel's half-width in voxels; 3 times the largest sigma loses nothing that shows.
    """
    taps = torch.arange(reach + 1, device=sigma.device).view(-1, 1, 1, 1, 1, 1)
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=TINY)) ** 2)
    weights = weights / (weights[0] + 2 * weights[1:].sum(0))
    for axis in SPACE:
        if image.shape[axis] > 1:
            image = _blur_axis(image, weights, axis)
    return image


def _blur_axis(image: Tensor, weights: Tensor, axis: int) -> Tensor:
    reach, size = len(weights) - 1, image.shape[axis]
    pad = [0] * 6
    pad[2 * (4 - axis)] = pad[2 * (4 - axis) + 1] = reach
    padded = functional.pad(image, pad, mode="replicate")
    result = image * weights[0]
    for tap in range(1, reach + 1):
        pair = padded.narrow(axis, reach - tap, size) + padded.narrow(axis, reach + tap, size)
        result.addcmul_(pair, weights[tap].expand_as(pair))
    return result


def brighten(image: Tensor, factor: Tensor) -> Tensor:
    """Return the image times `factor` (b, C, 1, 1, 1)."""
    return image * factor


def stretch_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Return the image with distances from each channel's mean times `factor`, clipped to the range it had."""
    mean, low, high = image.mean(SPACE, keepdim=True), image.amin(SPACE, keepdim=True), image.amax(SPACE, keepdim=True)
    return torch.minimum(torch.maximum((image - mean) * factor + mean, low), high)


def bend(image: Tensor, gamma: Tensor) -> Tensor:
    """Return the image after a gamma curve over each channel's range; mean and standard deviation are kept."""
    low, high = image.amin(SPACE, keepdim=True), image.amax(SPACE, keepdim=True)
    width = (high - low).clamp(min=TINY)
    curved = ((image - low) / width) ** gamma * width
    spread, mean = _spread_and_mean(image)
    curved_spread, curved_mean = _spread_and_mean(curved)
    result = (curved - curved_mean) * (spread / curved_spread.clamp(min=TINY)) + mean
    return torch.where(gamma == 1, image, result)


def _spread_and_mean(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean of each channel; on a CPU 15 times faster than `torch.std_mean`."""
    mean = image.mean(SPACE, keepdim=True)
    return (image - mean).square_().mean(SPACE, keepdim=True).sqrt_(), mean


def coarsen(image: Tensor, fraction: float, *, in_plane: bool) -> Tensor:
    """Return the image (Z, Y, X) as if taken with `fraction` of its voxels along each axis (y and x if `in_plane`).

    Down by nearest-exact, up linearly: plain nearest would shift the image by half a voxel.
    """
    small = [max(1, round(size * fraction)) for size in image.shape]
    if in_plane:
        down = functional.interpolate(image[:, None], small[1:], mode="nearest-exact")
        return functional.interpolate(down, image.shape[1:], mode="bilinear")[:, 0]
    down = functional.interpolate(image[None, None], small, mode="nearest-exact")
    return functional.interpolate(down, image.shape, mode="trilinear")[0, 0]
