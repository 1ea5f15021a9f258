import numpy as np
import pytest

from autoseg.images.steadiness import LEAST, STEADINESS, look_again, steadiness_of


def scan(shape=(12, 14, 16)) -> np.ndarray:
    """A cube of intensities 3 and 5, one side each, in a background of 1 with a little of everything."""
    image = np.ones((1, *shape), np.float32)
    image[0, 3:9, 4:10, 4:8] = 3
    image[0, 3:9, 4:10, 8:12] = 5
    return image


def mask_of(image: np.ndarray) -> np.ndarray:
    inside = (image[:1] > 2).astype(np.float32)
    return np.concatenate([1 - inside, inside])


def always(image: np.ndarray) -> np.ndarray:
    """A network that answers the same box, whatever it is shown."""
    found = np.zeros((2, *image.shape[1:]), np.float32)
    z, y, x = image.shape[1:]
    found[1, z // 4 : 3 * z // 4, y // 4 : 3 * y // 4, x // 4 : 3 * x // 4] = 1
    found[0] = 1 - found[1]
    return found


def soft(threshold: float):
    def predict(image: np.ndarray) -> np.ndarray:
        inside = 1 / (1 + np.exp(-10 * (image[:1] - threshold)))
        return np.concatenate([1 - inside, inside]).astype(np.float32)

    return predict


def signs(image, predict, output="softmax"):
    return steadiness_of(look_again(image, predict, seen=1), image, seen=1, output=output)


def test_intensities_are_read_inside_and_around():
    (row,) = signs(scan(), mask_of)
    found = dict(zip(STEADINESS, row[:3].tolist(), strict=True))
    assert found["contrast"] == pytest.approx(4 - 1)  # half 3, half 5; around it 1
    assert found["texture"] == pytest.approx(np.log(1 + LEAST), abs=1e-6)
    np.testing.assert_allclose(row[3:], row[:3], err_msg="the only structure is all of them")


def test_what_hangs_on_a_small_change_wobbles_more():
    image = scan()
    edge, clear = (signs(image, soft(threshold))[0, 0] for threshold in (2.9, 2.0))
    assert edge > clear + 0.3
    empty = np.zeros_like(image)
    assert (signs(empty, mask_of) == 0).all(), "nothing was predicted"


def test_a_network_that_looks_at_nothing_is_steady_but_for_the_size():
    """Intensities change nothing, sizes move the box to its place again, blurred by the way there and back."""
    passes = look_again(scan((16, 16, 16)), always, seen=1)
    assert passes.count == 9
    middle = passes.spread(1, (slice(6, 10),) * 3)
    assert middle.max() < 0.05
    assert passes.spread(1, (slice(0, 16),) * 3).max() > 0.05


def test_only_channels_of_the_scanner_change_their_intensities():
    seen: list[np.ndarray] = []

    def predict(image: np.ndarray) -> np.ndarray:
        seen.append(image.copy())
        return mask_of(image)

    image = np.concatenate([scan(), scan() > 2]).astype(np.float32)
    before = image.copy()
    look_again(image, predict, seen=1)
    assert len(seen) == 9
    np.testing.assert_array_equal(image, before)
    same = [item for item in seen if item.shape == image.shape]
    assert all(np.array_equal(item[1], image[1]) for item in same)
    assert [np.array_equal(item[0], image[0]) for item in same] == [True, *[False] * 6]
    assert sorted(item.shape[1:] for item in seen if item.shape != image.shape) == [(11, 12, 14), (13, 16, 18)]


def test_the_same_scan_gives_the_same_signs():
    first, second = (signs(scan(), soft(2.9)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_overlapping_regions_have_rows_of_their_own_and_share_what_all_say():
    def predict(image: np.ndarray) -> np.ndarray:
        return np.concatenate([image > 2, image > 4, image > 99]).astype(np.float32)

    whole, core, nothing = signs(scan(), predict, output="sigmoid")
    assert whole[2] == pytest.approx(3)
    assert core[1] == pytest.approx(np.log(LEAST)), "the core has one intensity"
    np.testing.assert_allclose(whole[3:], (whole[:3] + core[:3]) / 2)
    assert (nothing[:3] == 0).all()
    np.testing.assert_allclose(nothing[3:], whole[3:])


def test_a_slice_is_a_scan():
    (row,) = signs(scan()[:, 5:6], mask_of)
    assert row[2] == pytest.approx(3)
    assert np.isfinite(row).all()
