"""Each change of intensity alone, on images whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from autoseg.networks.augmentation import apply, draw, identity, source_shape
from autoseg.networks.augmentation.intensity import bend, blur, change_intensity, coarsen, stretch_contrast
from autoseg.records.preset import Augmentation

STILL = identity(2)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_nothing_drawn_changes_nothing() -> None:
    image = noise(2, 2, 4, 5, 6)
    assert torch.equal(change_intensity([STILL, STILL], image.clone()), image)


def test_brightness_is_a_factor_per_sample_and_channel() -> None:
    image = torch.ones(2, 2, 3, 3, 3)
    out = change_intensity([STILL, replace(STILL, brightness=(0.5, 1.25))], image)
    assert out[:, :, 0, 0, 0].tolist() == [[1, 1], [0.5, 1.25]]


def test_contrast_stretches_about_the_mean_and_keeps_the_range() -> None:
    image = torch.tensor([-2.0, -1, 0, 1, 2]).view(1, 1, 1, 5)
    out = stretch_contrast(image.clone(), [1.5])
    assert out.flatten().tolist() == [-2, -1.5, 0, 1.5, 2]
    narrow = stretch_contrast(image.clone(), [0.5])
    assert narrow.flatten().tolist() == [-1, -0.5, 0, 0.5, 1]


def test_gamma_keeps_mean_and_spread_and_bends_the_middle() -> None:
    image = torch.linspace(0, 1, 101).view(1, 1, 1, -1)
    out = bend(image.clone(), [1.4])
    assert out.mean().item() == pytest.approx(image.mean().item(), abs=1e-6)
    assert out.std().item() == pytest.approx(image.std().item(), abs=1e-6)
    line = out.flatten()
    assert (line.diff() > 0).all()
    assert line[50] < (line[0] + line[-1]) / 2


def test_inverted_gamma_bends_the_other_way() -> None:
    image = torch.linspace(0, 1, 101).view(1, 1, 1, 1, -1)
    line = change_intensity([replace(identity(1), inverted_gamma=(1.4,))], image.clone()).flatten()
    mirrored = change_intensity([replace(identity(1), gamma=(1.4,))], 1 - image).flatten()
    torch.testing.assert_close(line, 1 - mirrored, atol=1e-5, rtol=0)


def test_gamma_on_a_constant_image_stays_finite() -> None:
    image = torch.full((1, 2, 3, 3, 3), 5.0)
    out = change_intensity([replace(STILL, gamma=(0.7, 1.4), contrast=(1.2, 1.2))], image)
    torch.testing.assert_close(out, torch.full_like(out, 5.0))


def test_blur_of_a_point_is_the_gaussian() -> None:
    image = torch.zeros(1, 9, 9, 9)
    image[..., 4, 4, 4] = 1
    out = blur(image, [1.0])
    taps = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    taps /= taps.sum()
    np.testing.assert_allclose(out[0, 4, 4, 1:8], taps * taps[3] ** 2, rtol=1e-5)
    assert out.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 9, 2), (2, 1, 3)])
def test_blur_repeats_the_edges_as_scipy_does(shape: tuple[int, int, int]) -> None:
    image, sigmas = noise(2, *shape), (0.6, 1.0)
    expected = [
        gaussian_filter(part.numpy(), sigma, mode="nearest", truncate=3 / sigma) for part, sigma in zip(image, sigmas)
    ]
    out = blur(image.clone(), sigmas)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


def test_blur_strikes_the_drawn_channel_only_and_keeps_constants() -> None:
    image = noise(1, 2, 1, 8, 8)
    image[:, 1] = 3
    out = change_intensity([replace(STILL, blur_sigma=(0.0, 0.9))], image.clone())
    assert torch.equal(out[:, 0], image[:, 0])
    torch.testing.assert_close(out[:, 1], image[:, 1])


@pytest.mark.parametrize("in_plane", [False, True])
def test_low_resolution_does_not_shift(in_plane: bool) -> None:
    ramp = torch.arange(12.0).expand(4, 6, 12) * 1.0
    out = coarsen(ramp, 1 / 3, in_plane=in_plane)
    assert out.shape == ramp.shape
    # Thirds of the voxels: each kept value lies in the middle of three, and a ramp comes back inside the edge.
    torch.testing.assert_close(out[..., 1:-1], ramp[..., 1:-1])


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.77, 0.98])
def test_low_resolution_is_that_of_torch(fraction: float) -> None:
    image = noise(7, 12, 9)
    small = functional.interpolate(
        image[None, None], [max(1, round(n * fraction)) for n in image.shape], mode="nearest-exact"
    )
    expected = functional.interpolate(small, image.shape, mode="trilinear")[0, 0]
    torch.testing.assert_close(coarsen(image, fraction, in_plane=False), expected)


@pytest.mark.parametrize(
    "change", ["brightness", "contrast", "gamma", "inverted_gamma", "blur_sigma", "low_resolution"]
)
def test_a_channel_that_is_not_struck_keeps_every_bit(change: str) -> None:
    image = noise(2, 2, 4, 5, 6)
    none = 0.0 if change == "blur_sigma" else 1.0
    out = change_intensity([STILL, replace(STILL, **{change: (none, 0.7)})], image.clone())
    assert torch.equal(out[0], image[0])
    assert torch.equal(out[1, 0], image[1, 0])
    assert not torch.equal(out[1, 1], image[1, 1])


def test_low_resolution_loses_detail_in_the_plane_only_where_slices_are_thick() -> None:
    slices = torch.arange(6.0).view(6, 1, 1).expand(6, 8, 8) % 2
    assert torch.equal(coarsen(slices, 0.5, in_plane=True), slices)
    assert not torch.equal(coarsen(slices, 0.5, in_plane=False), slices)


def test_noise_has_the_drawn_spread_and_its_own_seed() -> None:
    image = torch.zeros(2, 1, 20, 20, 20)
    loud = replace(identity(1), noise_std=0.1, noise_seed=7)
    out = change_intensity([loud, identity(1)], image.clone())
    assert out[0].std().item() == pytest.approx(0.1, rel=0.03)
    assert out[1].abs().max() == 0
    other = change_intensity([replace(loud, noise_seed=8)], image[:1].clone())
    assert not torch.equal(other[0], out[0])


@pytest.mark.parametrize("patch", [(6, 8, 10), (1, 12, 12)])
def test_equal_draws_give_equal_bytes_and_leave_the_source_alone(patch: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    loud = {name: 0.8 for name in Augmentation.model_fields if name.endswith("probability")}
    keys = {"patch_shape": patch, "mirror_axes": (0, 1, 2), "channels": 2, "previous": True}
    items = [draw(rng, Augmentation(**loud), **keys) for _ in range(3)]
    side = source_shape(items, patch)
    image, labels = noise(3, 2, *side), torch.randint(0, 4, (3, *side), dtype=torch.uint8)
    kept = [tensor.clone() for tensor in (image, labels)]
    first = apply(items, image, labels, patch, previous=labels, classes=3)
    second = apply(items, image, labels, patch, previous=labels, classes=3)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert torch.isfinite(first[0]).all()
    assert torch.equal(image, kept[0])
    assert torch.equal(labels, kept[1])
    assert [tuple(item.shape) for item in first] == [(3, 2, *patch), (3, *patch), (3, *patch)]


def test_gamma_and_contrast_agree_with_batchgenerators() -> None:
    color = pytest.importorskip("batchgenerators.augmentations.color_augmentations")
    image = noise(1, 4, 6, 6)
    theirs = color.augment_gamma(image.numpy().copy(), gamma_range=(1.3, 1.3), retain_stats=True)
    mine = bend(image.clone(), [1.3])
    np.testing.assert_allclose(mine.numpy(), theirs, atol=0.02)
    theirs = color.augment_contrast(image.numpy().copy(), contrast_range=(1.2, 1.2), p_per_channel=1)
    mine = stretch_contrast(image.clone(), [1.2])
    np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-5)
