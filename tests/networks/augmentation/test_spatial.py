"""The one resampling, on shapes whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoseg.networks.augmentation import Draw, apply, draw, identity, source_shape, spatial, turning
from autoseg.networks.augmentation.places import find_places, majority
from autoseg.networks.augmentation.turning import find_places as find_places_of_sample
from autoseg.networks.augmentation.turning import first_corners, mark_mixed, weigh_corners
from autoseg.records.preset import Augmentation

STILL = identity(1)


def run(item: Draw, volume: np.ndarray, patch: tuple[int, int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Apply one draw to a volume that serves as image and as labels; the window is the whole volume."""
    image = torch.from_numpy(volume.astype(np.float32))[None, None]
    labels = torch.from_numpy(volume.astype(np.uint8))[None]
    image, labels, _ = apply([item], image, labels, patch or volume.shape, classes=9)
    return image[0, 0].numpy(), labels[0].numpy()


def random_volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, shape)


def test_nothing_drawn_returns_the_centre_exactly() -> None:
    volume = random_volume(9, 10, 12)
    image, labels = run(STILL, volume, (5, 8, 6))
    assert np.array_equal(image, volume[2:7, 1:9, 3:9])
    assert np.array_equal(labels, volume[2:7, 1:9, 3:9])


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirroring_is_exact(axes: tuple[int, ...]) -> None:
    volume = random_volume(5, 6, 7)
    item = replace(STILL, mirror=tuple(axis in axes for axis in range(3)))
    image, labels = run(item, volume)
    assert np.array_equal(image, np.flip(volume, axes))
    assert np.array_equal(labels, np.flip(volume, axes))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_equals_rot90(axis: int) -> None:
    volume = random_volume(7, 7, 7)
    angles = tuple(90.0 if other == axis else 0.0 for other in range(3))
    image, labels = run(replace(STILL, angles_degrees=angles), volume)
    plane = tuple(other for other in range(3) if other != axis)
    expected = np.rot90(volume, axes=plane)
    np.testing.assert_allclose(image, expected, atol=1e-4)
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_quarter_turn_in_the_plane_keeps_the_slices(depth: int) -> None:
    volume = random_volume(depth, 6, 6)
    item = replace(STILL, angles_degrees=(90.0, 0.0, 0.0), in_plane=True)
    image, labels = run(item, volume)
    np.testing.assert_allclose(image, np.rot90(volume, axes=(1, 2)), atol=1e-4)
    assert np.array_equal(labels, np.rot90(volume, axes=(1, 2)))


@pytest.mark.parametrize("in_plane", [False, True])
def test_mirroring_comes_with_the_turn(in_plane: bool) -> None:
    volume = random_volume(6, 6, 6)
    turned = replace(STILL, angles_degrees=(90.0, 0.0, 0.0), in_plane=in_plane)
    both = replace(turned, mirror=(True, False, True))
    assert np.array_equal(run(both, volume)[1], np.flip(run(turned, volume)[1], (0, 2)))


def ball(size: int, radius: float) -> np.ndarray:
    centre = (size - 1) / 2
    z, y, x = np.ogrid[:size, :size, :size]
    return ((z - centre) ** 2 + (y - centre) ** 2 + (x - centre) ** 2 <= radius**2).astype(np.uint8)


@pytest.mark.parametrize("scale", [0.5, 1.4])
def test_scaling_scales_a_balls_radius(scale: float) -> None:
    patch = (25, 25, 25)
    item = replace(STILL, scale=scale)
    side = source_shape([item], patch)[0]
    _, labels = run(item, ball(side, 8), patch)
    radius = (labels.sum() * 3 / (4 * np.pi)) ** (1 / 3)
    assert radius == pytest.approx(8 * scale, abs=0.15)


def test_scaling_in_the_plane_keeps_the_depth() -> None:
    item = replace(STILL, scale=0.5, in_plane=True)
    side = source_shape([item], (5, 9, 9))
    assert side == (5, 17, 17)
    volume = np.zeros(side, dtype=np.uint8)
    volume[:, 4:13, 4:13] = 1
    _, labels = run(item, volume, (5, 9, 9))
    assert labels[:, 4, 4].all()
    assert labels.sum(axis=(1, 2)).tolist() == [25] * 5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(6, 7, 8), (2, 9, 9), (1, 8, 6)]))
def test_the_window_covers_what_is_looked_at(seed: int, patch: tuple[int, int, int]) -> None:
    strong = Augmentation(rotation_probability=1, scaling_probability=1)
    item = draw(np.random.default_rng(seed), strong, patch_shape=patch, mirror_axes=(0, 1, 2), channels=1)
    side = source_shape([item], patch)
    assert all((a - b) % 2 == 0 for a, b in zip(side, patch))
    ramp = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in side), indexing="ij"))
    # Linear interpolation of a linear ramp is exact unless a place was clamped to the window.
    still = replace(STILL, angles_degrees=item.angles_degrees, scale=item.scale, mirror=item.mirror)
    still = replace(still, in_plane=item.in_plane)
    image = torch.from_numpy(ramp.astype(np.float32))[None]
    out, _, _ = apply([still], image, torch.zeros((1, *side), dtype=torch.uint8), patch, classes=1)
    reach = np.abs(ramp.reshape(3, -1)).max(1)
    got = out[0].reshape(3, -1).numpy()
    centre = got.mean(1)
    np.testing.assert_allclose(centre, 0, atol=1e-4)
    length = np.linalg.norm(got[1:] if item.in_plane else got, axis=0).max()
    corner = (np.array(patch) - 1) / 2 / item.scale
    assert length == pytest.approx(np.linalg.norm(corner[1:] if item.in_plane else corner), rel=1e-4)
    assert (np.abs(got).max(1) <= reach + 1e-4).all()


@pytest.mark.parametrize("classes", [5, 40], ids=["fewer classes than corners", "more"])
def test_labels_are_the_argmax_of_linear_one_hot_maps(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (2, 1, 6, 7, 8), generator=generator, dtype=torch.uint8)
    offsets = torch.rand(2, 3, 200, generator=generator) * torch.tensor([5.0, 6.0, 7.0])[:, None]
    offsets = offsets - torch.tensor([2.5, 3.0, 3.5])[:, None]
    grid = (offsets / torch.tensor([2.5, 3.0, 3.5])[:, None]).flip(1).movedim(1, 2)[:, None, None]
    onehot = functional.one_hot(labels[:, 0].long(), classes).movedim(-1, 1).float()
    expected = functional.grid_sample(onehot, grid, align_corners=True)[:, :, 0, 0].argmax(1)
    assert torch.equal(majority(labels, find_places(labels.shape[2:], offsets))[:, 0].long(), expected)


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    volume = torch.from_numpy(random_volume(12, 12, 12).astype(np.float32))
    turned = replace(STILL, angles_degrees=(10.0, 20.0, 5.0))
    mirrored = replace(STILL, mirror=(False, True, False))
    image = volume.expand(3, 2, 12, 12, 12)
    labels = volume.to(torch.int16).expand(3, 12, 12, 12)
    patch = (6, 6, 6)
    items = [replace(item, **dict.fromkeys(("blur_sigma",), (0.0, 0.0))) for item in (STILL, turned, mirrored)]
    together = apply(items, image, labels, patch, classes=9)
    for index, item in enumerate(items):
        alone = apply([item], image[:1], labels[:1], patch, classes=9)
        assert torch.equal(together[0][index], alone[0][0])
        assert torch.equal(together[1][index], alone[1][0])
    assert together[1].dtype == torch.int16


MOTIONS = {
    "turned": {"angles_degrees": (10.0, 25.0, -15.0)},
    "turned, smaller and flipped": {"angles_degrees": (-20.0, 5.0, 30.0), "scale": 0.7, "mirror": (True, False, True)},
    "smaller": {"scale": 0.75},
    "larger and flipped": {"scale": 1.3, "mirror": (True, True, False)},
    "turned in the plane": {"angles_degrees": (30.0, 0.0, 0.0), "in_plane": True, "mirror": (True, False, True)},
    "smaller in the plane": {"scale": 0.7, "in_plane": True, "mirror": (True, False, False)},
    "turned about z": {"angles_degrees": (30.0, 0.0, 0.0)},
    "turned about z, larger": {"angles_degrees": (30.0, 0.0, 0.0), "scale": 1.2},
    "turned about x": {"angles_degrees": (0.0, 0.0, 40.0)},
}


@pytest.mark.parametrize("patch", [(7, 8, 9), (1, 9, 8), (6, 1, 7), (5, 40, 30)], ids=str)
@pytest.mark.parametrize("motion", MOTIONS)
def test_what_lies_between_voxels_is_that_of_torch(
    motion: str, patch: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "SLAB_VOXELS", 200)
    item = replace(identity(2), **MOTIONS[motion])
    window = [size + 2 for size in source_shape([item], patch)]
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 2, *window, generator=generator)
    labels = torch.randint(0, 5, (1, *window), generator=generator, dtype=torch.uint8)
    shown, shown_labels, _ = apply([item], image, labels, patch, classes=4)
    offsets = spatial._offsets([item], patch, (0, 1, 2), image.device)
    torch.testing.assert_close(shown, spatial._linear(image, offsets, patch), atol=2e-3, rtol=0)
    weights = spatial._linear(functional.one_hot(labels.long(), 5).movedim(-1, 1).float(), offsets, patch)
    # Where two labels weigh the same, the last digits decide.
    chosen = weights.gather(1, shown_labels[:, None].long())[:, 0]
    torch.testing.assert_close(chosen, weights.amax(1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_card_is_asked_for_the_same(motion: str) -> None:
    item, patch = replace(identity(1), **MOTIONS[motion]), (6, 7, 8)
    window = source_shape([item], patch)
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(2, 1, *window, generator=generator)
    labels = torch.randint(0, 3, (2, *window), generator=generator, dtype=torch.uint8)
    mine = spatial.place([item, item], image, [labels], patch)
    theirs = torch.empty(2, 1, *patch), torch.empty(2, *patch, dtype=torch.uint8)
    spatial._resample([item, item], [0, 1], (image, theirs[0]), [(labels, theirs[1])])
    torch.testing.assert_close(mine[0], theirs[0], atol=1e-4, rtol=0)
    assert (mine[1][0] == theirs[1]).float().mean() > 0.95  # the last digits decide between equals


def test_mixed_cells_are_marked_at_their_first_corner() -> None:
    labels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    labels[1, 2, 3] = 7
    marked = torch.zeros(labels.numel(), dtype=torch.uint8)
    found = mark_mixed(labels, (0, 1, 2))
    marked[: len(found)] = found
    assert marked.view(3, 4, 4)[:2, :3, :3].nonzero().tolist() == [[0, 1, 2], [0, 2, 2], [1, 1, 2], [1, 2, 2]]
    assert set(found.tolist()) == {0, 255}


def test_labels_as_large_as_their_type_allows_are_kept() -> None:
    labels = torch.full((1, 6, 6, 6), 255, dtype=torch.uint8)
    labels[0, :, :3] = 254
    _, shown, _ = apply([replace(STILL, scale=1.3)], torch.zeros(1, 1, 6, 6, 6), labels, (6, 6, 6), classes=1)
    assert torch.equal(shown[0], labels[0])


def test_between_two_labels_of_equal_weight_the_smaller_wins() -> None:
    labels = torch.tensor([3, 1, 3, 2], dtype=torch.uint8).view(1, 1, 1, 1, 4)
    # Half-way between each pair of neighbours along x.
    offsets = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]])
    places = find_places(labels.shape[2:], offsets)
    assert majority(labels, places).flatten().tolist() == [1, 1, 2]


def test_corners_are_weighed_two_labels_at_a_time_or_all_of_them() -> None:
    corners = np.array([[3, 5, 9], [1, 1, 1], [3, 9, 9], [2, 9, 5]], np.uint8)
    shares = np.array([0.5, 0.8, 0.2], np.float32), np.array([0.5, 0.5, 0.9], np.float32)
    assert weigh_corners(corners, shares).tolist() == [3, 9, 1]
    equal = np.array([[4, 4], [2, 2], [4, 2], [2, 3]], np.uint8)
    assert weigh_corners(equal, [np.full(2, 0.5, np.float32)] * 2).tolist() == [2, 2]


def test_a_cell_is_found_by_its_number_in_the_window_however_large_that_is() -> None:
    patch, window = (3, 4, 5), (600, 300, 100)
    matrix = np.diag([120.0, 60.0, 20.0])
    places = find_places_of_sample(matrix, window, patch, between=(0, 1, 2))
    z, y, x = np.meshgrid(*(np.floor(place.numpy().ravel()).astype(int) for place in places), indexing="ij")
    expected = np.ravel_multi_index((z, y, x), window)
    assert np.array_equal(first_corners(places, (30_000, 100, 1), 18_000_000).numpy(), expected)
