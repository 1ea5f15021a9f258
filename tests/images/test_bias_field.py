from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import bias_field, files, kept_fields
from autoseg.images.bias_field import correct_bias, shrink_factors
from autoseg.records.geometry import Grid


def shading(shape: tuple[int, ...], inside: np.ndarray) -> np.ndarray:
    """A smooth field, as of a coil on one side, that varies by 40 % where there is signal."""
    z, y, x = (np.linspace(-1, 1, size) for size in shape)
    field = np.sin(1.6 * x + 0.4)[None, None] * np.cos(1.2 * y)[None, :, None] + 0.4 * z[:, None, None]
    low, high = np.percentile(field[inside], (1, 99))
    return np.asarray(np.exp(np.log(1.4) * (field - low) / (high - low)))


def spread(values: np.ndarray) -> float:
    """By what fraction a field varies, from its 1st to its 99th percentile."""
    low, high = np.percentile(values, (1, 99))
    return float(high / low - 1)


def coarse(real_data: Path) -> tuple[np.ndarray, Grid]:
    array, grid = files.read_volume(real_data / "ms_lesions" / "patient07" / "T1.nii.gz")
    array = array[:180, :216, :180].reshape(90, 2, 108, 2, 90, 2).mean((1, 3, 5)).astype(np.float32)
    spacing = tuple(2 * step for step in grid.spacing_mm)
    return array, Grid(shape=(90, 108, 90), spacing_mm=spacing, direction=grid.direction)


def test_a_field_of_40_percent_is_reduced_below_10(real_data: Path) -> None:
    array, grid = coarse(real_data)
    inside = array > 0.3 * np.percentile(array, 99.5)
    field = shading(array.shape, inside)
    assert 0.38 < spread(field[inside]) < 0.42
    shaded = (array * field).astype(np.float32)
    found, said = correct_bias(shaded, grid)
    assert spread((found / np.where(array == 0, 1, array))[inside]) < 0.10
    assert said.startswith("bias field corrected (it varied by ")
    assert 0.9 < found[inside].mean() / shaded[inside].mean() < 1.1  # the scale stays
    again, _ = correct_bias(shaded, grid)
    assert found.tobytes() == again.tobytes()


def test_an_even_image_stays_as_it_is(real_data: Path) -> None:
    array, grid = coarse(real_data)
    found, _ = correct_bias(array, grid)
    inside = array > 0.3 * np.percentile(array, 99.5)
    assert spread((found / np.where(array == 0, 1, array))[inside]) < 0.10


def test_what_cannot_be_corrected_is_left_and_said() -> None:
    grid = Grid(shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    for array in (np.zeros(grid.shape, np.float32), np.full(grid.shape, 5, np.float32)):
        found, said = correct_bias(array, grid)
        assert found is array
        assert "no contrast" in said
    point = np.zeros(grid.shape, np.float32)
    point[8, 8, 8] = 9
    found, said = correct_bias(point, grid)
    assert found is point
    assert "too few voxels" in said


def test_thick_slices_are_shrunk_less() -> None:
    assert shrink_factors(Grid(shape=(160, 160, 160), spacing_mm=(1.0, 1.0, 1.0))) == (6, 6, 6)
    assert shrink_factors(Grid(shape=(120, 120, 120), spacing_mm=(1.0, 1.0, 1.0))) == (4, 4, 4)
    assert shrink_factors(Grid(shape=(24, 512, 512), spacing_mm=(5.0, 0.5, 0.5))) == (2, 15, 15)
    assert shrink_factors(Grid(shape=(16, 20, 160), spacing_mm=(1.0, 1.0, 1.0))) == (2, 2, 4)


def head(seed: int = 0) -> tuple[np.ndarray, Grid]:
    """A shaded ball in noise, small enough to correct in a moment."""
    grid = Grid(shape=(24, 28, 32), spacing_mm=(2.0, 2.0, 2.0))
    z, y, x = np.indices(grid.shape)
    ball = ((z - 12) / 10) ** 2 + ((y - 14) / 12) ** 2 + ((x - 16) / 14) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 2, grid.shape)
    return np.where(ball, 100 * np.exp(0.02 * (x - 16)) + noise, np.abs(noise)).astype(np.float32), grid


def never() -> None:
    raise AssertionError("searched again")


def test_a_field_is_searched_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, grid = head()
    first, said = correct_bias(array, grid, kept=tmp_path)
    alone, _ = correct_bias(array, grid)
    assert first.tobytes() == alone.tobytes()
    (file,) = (tmp_path / "bias_fields").iterdir()
    assert file.stat().st_size < array.nbytes / 8
    monkeypatch.setattr(bias_field, "_log_field", lambda *_: never())
    again, words = correct_bias(array, grid, kept=tmp_path)
    assert again.tobytes() == first.tobytes()
    assert words == said
    with pytest.raises(AssertionError, match="searched again"):  # other voxels have another field
        correct_bias(array + 1, grid, kept=tmp_path)
    with pytest.raises(AssertionError, match="searched again"):  # and so has the same array on another grid
        correct_bias(array, grid.model_copy(update={"spacing_mm": (2.0, 2.0, 2.5)}), kept=tmp_path)


def test_a_new_method_searches_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, grid = head()
    correct_bias(array, grid, kept=tmp_path)
    monkeypatch.setattr(kept_fields, "METHOD_VERSION", -1)
    correct_bias(array, grid, kept=tmp_path)
    assert len(list((tmp_path / "bias_fields").iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_field_is_found_again(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    array, grid = head()
    first, _ = correct_bias(array, grid, kept=tmp_path)
    (file,) = (tmp_path / "bias_fields").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    again, _ = correct_bias(array, grid, kept=tmp_path)
    assert again.tobytes() == first.tobytes()
    assert file.read_bytes() == whole
    assert "Searching for the bias field again" in caplog.text


def test_where_nothing_can_be_kept_the_image_is_corrected_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    array, grid = head()
    (tmp_path / "bias_fields").write_text("a file where the folder should be")
    found, _ = correct_bias(array, grid, kept=tmp_path)
    assert found.tobytes() == correct_bias(array, grid)[0].tobytes()
    assert "is not kept" in caplog.text
