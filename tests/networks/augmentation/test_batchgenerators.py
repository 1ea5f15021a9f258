"""Each transform against batchgenerators' transform of the same name: what it does to an image, over many draws."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from autoseg.networks.augmentation import apply, draw, source_shape
from autoseg.records.preset import Augmentation

pytestmark = pytest.mark.slow

DRAWS = 600
SHAPE = (16, 20, 18)
NEVER = {name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


def image() -> np.ndarray:
    """A smooth volume of values between about -2 and 3, more dark than bright."""
    rough = np.random.default_rng(0).normal(size=SHAPE)
    smooth = gaussian_filter(rough, 1.0)
    return (np.exp(smooth / smooth.std() / 2) - 1).astype(np.float32)


def blob() -> np.ndarray:
    """A label of one flat ellipsoid off the middle: every turn and every scale shows in it."""
    z, y, x = np.indices(SHAPE) - (np.reshape(SHAPE, (3, 1, 1, 1)) - 1) / 2
    return ((z / 3) ** 2 + (y / 7) ** 2 + ((x - 1) / 4) ** 2 <= 1).astype(np.float32)


def ours(volume: np.ndarray, effect: Callable[[np.ndarray], float], **settings: object) -> np.ndarray:
    rng = np.random.default_rng(1)
    rules = Augmentation(**NEVER | settings)
    return np.array([effect(one_of_ours(volume, rules, rng)) for _ in range(DRAWS)])


def one_of_ours(volume: np.ndarray, rules: Augmentation, rng: np.random.Generator) -> np.ndarray:
    item = draw(rng, rules, patch_shape=SHAPE, mirror_axes=(0, 1, 2), channels=1)
    room = [(size - own) // 2 for size, own in zip(source_shape([item], SHAPE), SHAPE)]
    padded = torch.from_numpy(np.pad(volume, [(n, n) for n in room], mode="edge"))
    out, labels, _ = apply([item], padded[None, None], (padded[None] > 0.5).to(torch.uint8), SHAPE, classes=1)
    return (labels[0] if set(np.unique(volume)) == {0, 1} else out[0, 0]).numpy()


@pytest.fixture
def theirs() -> Iterator[Callable[..., np.ndarray]]:
    """What their transform does, drawn from the global generators, which are put back."""
    pytest.importorskip("batchgenerators")
    states = np.random.get_state(), random.getstate()
    np.random.seed(2)
    random.seed(2)

    def effects(transform: Callable[..., dict], volume: np.ndarray, effect: Callable[[np.ndarray], float]):
        return np.array([effect(transform(data=volume[None, None].copy())["data"][0, 0]) for _ in range(DRAWS)])

    yield effects
    np.random.set_state(states[0])
    random.setstate(states[1])


def same_spread(mine: np.ndarray, others: np.ndarray, *, within: float) -> None:
    """Quantiles agree within a share of the range that theirs spans."""
    expected = np.quantile(others, QUANTILES)
    span = expected[-1] - expected[0]
    assert span > 0
    np.testing.assert_allclose(np.quantile(mine, QUANTILES), expected, atol=within * span)


def test_noise(theirs) -> None:
    from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform

    volume = image()

    def spread(out):
        return float((out - volume).std())

    mine = ours(volume, spread, noise_probability=1.0, noise_variance=(0.0, 0.1))
    same_spread(mine, theirs(GaussianNoiseTransform((0, 0.1), p_per_sample=1), volume, spread), within=0.15)


def roughness(out: np.ndarray) -> float:
    return float(np.abs(np.diff(out, axis=2)).mean())


def test_blur(theirs) -> None:
    from batchgenerators.transforms.noise_transforms import GaussianBlurTransform

    mine = ours(image(), roughness, blur_probability=1.0, blur_sigma=(0.5, 1.0))
    same_spread(mine, theirs(GaussianBlurTransform((0.5, 1.0), p_per_sample=1), image(), roughness), within=0.15)


def test_brightness(theirs) -> None:
    from batchgenerators.transforms.color_transforms import BrightnessMultiplicativeTransform

    mine = ours(image(), np.max, brightness_probability=1.0, brightness_range=(0.75, 1.25))
    transform = BrightnessMultiplicativeTransform((0.75, 1.25), p_per_sample=1)
    same_spread(mine, theirs(transform, image(), np.max), within=0.15)


def test_contrast(theirs) -> None:
    from batchgenerators.transforms.color_transforms import ContrastAugmentationTransform

    mine = ours(image(), np.std, contrast_probability=1.0, contrast_range=(0.75, 1.25))
    same_spread(mine, theirs(ContrastAugmentationTransform((0.75, 1.25)), image(), np.std), within=0.15)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma(theirs, inverted: bool) -> None:
    from batchgenerators.transforms.color_transforms import GammaTransform

    name = "inverted_gamma" if inverted else "gamma"
    mine = ours(image(), np.median, **{f"{name}_probability": 1.0, "gamma_range": (0.7, 1.5)})
    transform = GammaTransform((0.7, 1.5), inverted, retain_stats=True, p_per_sample=1)
    same_spread(mine, theirs(transform, image(), np.median), within=0.15)


def test_low_resolution(theirs) -> None:
    from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform

    # Up linearly as here: their cubic default overshoots.
    transform = SimulateLowResolutionTransform((0.5, 1), order_downsample=0, order_upsample=1, p_per_sample=1)
    mine = ours(image(), roughness, low_resolution_probability=1.0, low_resolution_range=(0.5, 1.0))
    same_spread(mine, theirs(transform, image(), roughness), within=0.3)


def test_mirroring(theirs) -> None:
    from batchgenerators.transforms.spatial_transforms import MirrorTransform

    corners = np.zeros(SHAPE, np.float32)
    corners[0, 0, 0] = 1

    def where(out):
        return float(np.flatnonzero(out > 0.5)[0])

    mine = ours(corners, where, mirror_probability=0.5)
    others = theirs(MirrorTransform((0, 1, 2)), corners, where)
    for place in np.unique(others):
        assert (mine == place).mean() == pytest.approx(1 / 8, abs=0.08)
        assert (others == place).mean() == pytest.approx(1 / 8, abs=0.08)
    assert len(np.unique(mine)) == len(np.unique(others)) == 8


def spatial(**changes: object) -> Callable[..., dict]:
    from batchgenerators.transforms.spatial_transforms import SpatialTransform

    off = {"do_elastic_deform": False, "do_rotation": False, "do_scale": False, "random_crop": False}
    return SpatialTransform(SHAPE, **off | {"order_data": 1, "border_mode_data": "nearest"} | changes)


def test_rotation(theirs) -> None:
    label = blob() > 0.5
    limit = np.deg2rad(30)

    def overlap(out):
        out = out > 0.5
        return float((out & label).sum() * 2 / (out.sum() + label.sum()))

    mine = ours(blob(), overlap, rotation_probability=1.0, rotation_degrees=30.0)
    angles = dict.fromkeys(("angle_x", "angle_y", "angle_z"), (-limit, limit))
    others = theirs(spatial(do_rotation=True, p_rot_per_sample=1, **angles), blob(), overlap)
    same_spread(mine, others, within=0.15)


def test_scaling(theirs) -> None:
    bright = gaussian_filter(blob(), 1.5)

    def size(out):
        return float(np.log(out.sum() / bright.sum()))

    # Theirs is a factor of the distance between voxels, ours of the size of things.
    mine = ours(bright, size, scaling_probability=1.0, scaling_range=(1 / 1.4, 1 / 0.7))
    same_spread(mine, theirs(spatial(do_scale=True, p_scale_per_sample=1, scale=(0.7, 1.4)), bright, size), within=0.15)
