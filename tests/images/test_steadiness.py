import numpy as np
import pytest

from autoseg.images.steadiness import LEAST, STEADINESS, shapes_looked_at, steadiness_of

OWN = len(STEADINESS)
STIR, TEXTURE, CONTRAST = range(OWN)


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


def signs(image, predict, output="softmax", seen=1):
    return steadiness_of(image, predict, seen=seen, output=output)


def test_intensities_are_read_inside_and_around():
    (row,) = signs(scan(), mask_of)
    assert row[CONTRAST] == pytest.approx(4 - 1)  # half 3, half 5; around it 1
    assert row[TEXTURE] == pytest.approx(np.log(1 + LEAST), abs=1e-6)
    np.testing.assert_allclose(row[OWN:], row[:OWN], err_msg="the only structure is all of them")


def test_what_hangs_on_a_small_change_is_stirred_more():
    image = scan()
    edge, clear = (signs(image, soft(threshold))[0, STIR] for threshold in (2.9, 2.0))
    assert edge > clear + 0.3
    empty = np.zeros_like(image)
    assert (signs(empty, mask_of) == 0).all(), "nothing was predicted"


def test_a_network_that_looks_at_nothing_is_stirred_by_the_sizes_alone():
    """Intensities move nothing: of eight logarithms six are of nothing, two of the box's way there and back."""
    (row,) = signs(scan((16, 16, 16)), always)
    sizes = (row[STIR] * 8 - 6 * np.log(LEAST)) / 2
    assert np.log(0.01) < sizes < np.log(0.3)


def test_only_channels_of_the_scanner_change_their_intensities():
    seen: list[np.ndarray] = []

    def predict(image: np.ndarray) -> np.ndarray:
        seen.append(image.copy())
        return mask_of(image)

    image = np.concatenate([scan(), scan() > 2]).astype(np.float32)
    before = image.copy()
    signs(image, predict)
    assert sorted(item.shape[1:] for item in seen) == sorted(shapes_looked_at((12, 14, 16)))
    np.testing.assert_array_equal(image, before)
    same = [item for item in seen if item.shape == image.shape]
    assert all(np.array_equal(item[1], image[1]) for item in same)
    assert [np.array_equal(item[0], image[0]) for item in same] == [True, *[False] * 6]
    assert sorted(item.shape[1:] for item in seen if item.shape != image.shape) == [(11, 12, 14), (13, 16, 18)]


def test_nothing_is_asked_again_where_nothing_was_predicted():
    asked: list[int] = []

    def predict(image: np.ndarray) -> np.ndarray:
        asked.append(1)
        return mask_of(image)

    assert signs(np.zeros((1, 8, 8, 8), np.float32), predict).shape == (1, 2 * OWN)
    assert len(asked) == 1


def test_the_same_scan_gives_the_same_signs():
    first, second = (signs(scan(), soft(2.9)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_overlapping_regions_have_rows_of_their_own_and_share_what_all_say():
    def predict(image: np.ndarray) -> np.ndarray:
        return np.concatenate([image > 2, image > 4, image > 99]).astype(np.float32)

    whole, core, nothing = signs(scan(), predict, output="sigmoid")
    assert whole[CONTRAST] == pytest.approx(3)
    assert core[TEXTURE] == pytest.approx(np.log(LEAST)), "the core has one intensity"
    np.testing.assert_allclose(whole[OWN:], (whole[:OWN] + core[:OWN]) / 2)
    assert (nothing[:OWN] == 0).all()
    np.testing.assert_allclose(nothing[OWN:], whole[OWN:])


def test_a_slice_is_a_scan():
    (row,) = signs(scan()[:, 5:6], mask_of)
    assert row[CONTRAST] == pytest.approx(3)
    assert np.isfinite(row).all()
