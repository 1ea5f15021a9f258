import numpy as np
import pytest

from autoseg.images.traits import traits
from autoseg.records.geometry import Grid
from autoseg.records.volumes import Image

SHAPE = (32, 40, 36)


def scan(array: np.ndarray | None = None, **grid) -> Image:
    """A bright egg in the dark with a slope across, on the patient's own axes."""
    z, y, x = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    egg = 100 + 400 / (1 + np.exp(10 * (np.sqrt(z**2 + y**2 + x**2) - 0.8))) + 100 * y
    array = egg if array is None else array
    return Image(np.asarray(array, np.float32)[None], Grid(shape=array.shape, **{"spacing_mm": (1, 1, 1)} | grid))


def found(image: Image, kind: str = "mr") -> dict[str, np.ndarray]:
    return traits(image, [kind])


def test_the_grid_is_told_in_logarithms_of_mm():
    assert np.exp(found(scan(spacing_mm=(3, 1, 0.5)))["spacing"]) == pytest.approx([3, 1, 0.5])
    assert np.exp(found(scan(spacing_mm=(3, 1, 0.5)))["field of view"]) == pytest.approx([96, 40, 18])


def test_white_noise_is_measured_as_a_share_of_the_range():
    noisy = scan().array[0] + np.random.default_rng(0).normal(0, 40, SHAPE)
    share = np.exp(found(scan(noisy))["noise"][0])
    low, high = np.percentile(noisy, (1, 99))
    assert share * (high - low) == pytest.approx(40, rel=0.05)
    assert np.exp(found(scan())["noise"][0]) < 0.005


def test_unit_and_offset_of_the_intensities_mean_nothing_except_in_ct():
    clean = scan().array[0]
    for aspect, numbers in found(scan(7 * clean + 1000)).items():
        np.testing.assert_allclose(numbers, found(scan())[aspect], atol=2e-3, err_msg=aspect)
    moved = found(scan(clean + 1000), "ct")["intensities"] - found(scan(), "ct")["intensities"]
    np.testing.assert_allclose(moved, 1000, atol=0.1)


def test_a_ghost_stands_out_of_the_spectrum_along_its_axis_alone():
    clean = scan().array[0] + np.random.default_rng(0).normal(0, 5, SHAPE).astype(np.float32)
    spectrum = np.fft.fft(clean, axis=1)
    spectrum[:, 4:-3:4] *= 0.2
    ghost = found(scan(np.fft.ifft(spectrum, axis=1).real))["ghosts"].reshape(3, 2)
    rise = ghost - found(scan(clean))["ghosts"].reshape(3, 2)
    assert (rise[1] > 0.5).all()
    assert (np.abs(rise[[0, 2]]) < 0.3).all()


def test_a_flip_changes_the_layout_and_a_turned_header_with_it_does_not():
    clean = scan().array[0]
    usual = found(scan())["layout"]
    assert np.abs(found(scan(clean[:, ::-1]))["layout"] - usual).max() > 0.1
    turned = scan(clean[:, ::-1], direction=((1, 0, 0), (0, -1, 0), (0, 0, 1)))
    np.testing.assert_allclose(found(turned)["layout"], usual, atol=1e-6)


def test_shading_is_the_slope_of_the_bright_parts():
    clean = scan().array[0]
    slope = np.exp(0.5 * np.linspace(-1, 1, SHAPE[2]))
    change = found(scan(clean * slope))["shading"] - found(scan())["shading"]
    assert change[0] == pytest.approx(0.5, abs=0.15) or np.abs(change[:3]).max() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 36), (3, 5, 2), (200, 9, 9)])
def test_every_shape_and_a_scan_without_contrast_have_finite_traits(shape):
    rng = np.random.default_rng(0)
    sizes = set()
    for array in (np.zeros(shape), rng.normal(size=shape)):
        result = found(scan(array.astype(np.float32)))
        assert all(np.isfinite(numbers).all() for numbers in result.values())
        sizes.add(tuple(len(numbers) for numbers in result.values()))
    assert len(sizes) == 1


def test_a_channel_that_was_not_measured_is_nan():
    image = scan()
    both = Image(np.concatenate([image.array, np.zeros_like(image.array)]), image.grid,
                 valid=np.stack([np.ones(SHAPE, bool), np.zeros(SHAPE, bool)]))  # fmt: skip
    noise = traits(both, ["mr", "mr"])["noise"]
    assert np.isfinite(noise[0])
    assert np.isnan(noise[1])
