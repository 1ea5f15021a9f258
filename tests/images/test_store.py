from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autoseg.images import store
from autoseg.records.errors import DataError, ResourceError

REDO = "Run the same command again to redo this case."


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 70, 30, 80)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16, bool])
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (5, 6, 7), (1, 1, 1)])
def test_what_is_written_is_read(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, size=shape).astype(dtype)
    store.write_array(tmp_path / "case.1.image.b2nd", array)
    found = store.read_array(tmp_path / "case.1.image.b2nd")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_a_view_is_written_as_it_looks(tmp_path: Path, array: np.ndarray) -> None:
    store.write_array(tmp_path / "a.b2nd", array[:, ::-1].transpose(0, 3, 1, 2))
    assert np.array_equal(store.read_array(tmp_path / "a.b2nd"), array[:, ::-1].transpose(0, 3, 1, 2))


def test_a_window_is_read_without_the_rest(tmp_path: Path, array: np.ndarray) -> None:
    store.write_array(tmp_path / "a.b2nd", array)
    opened = store.open_array(tmp_path / "a.b2nd")
    assert opened.shape == array.shape
    assert opened.chunks == (1, 64, 30, 64)
    assert np.array_equal(opened[1:, 60:66, 3:9, 62:70], array[1:, 60:66, 3:9, 62:70])


def test_chunks_may_be_given(tmp_path: Path, array: np.ndarray) -> None:
    store.write_array(tmp_path / "a.b2nd", array, chunk=(1, 1, 256, 256))
    assert store.open_array(tmp_path / "a.b2nd").chunks == (1, 1, 30, 80)


def test_nothing_else_is_left_and_equal_arrays_give_equal_files(tmp_path: Path, array: np.ndarray) -> None:
    for name in ("a.image.b2nd", "b.image.b2nd"):
        store.write_array(tmp_path / name, array)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.image.b2nd", "b.image.b2nd"]
    assert store.file_digest(tmp_path / "a.image.b2nd") == store.file_digest(tmp_path / "b.image.b2nd")


def test_labels_are_small(tmp_path: Path) -> None:
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[20:40, 20:40, 20:40] = 3
    store.write_array(tmp_path / "a.b2nd", labels)
    assert (tmp_path / "a.b2nd").stat().st_size < labels.nbytes / 50


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "case_07.labels.b2nd"
    store.write_array(path, np.random.default_rng(0).integers(0, 3, size=(5, 6, 7)).astype(np.uint8))
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"case_07\.labels\.b2nd: is damaged") as error:
            store.open_array(path)
        assert error.value.fix == REDO


def test_every_flipped_bit_is_noticed_by_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "case_07.labels.b2nd"
    store.write_array(path, np.random.default_rng(0).integers(0, 3, size=(5, 6, 7)).astype(np.uint8))
    digest = store.file_digest(path)
    store.check_file(path, digest)
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"case_07\.labels\.b2nd: is damaged \(its SHA-256") as error:
            store.check_file(path, digest)
        assert error.value.fix == REDO


@pytest.mark.parametrize("look", [store.open_array, store.read_array, store.file_digest])
def test_a_missing_file_is_named(tmp_path: Path, look: object) -> None:
    with pytest.raises(DataError, match=r"gone\.b2nd: is missing\. Run the same command again"):
        look(tmp_path / "gone.b2nd")  # type: ignore[operator]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.b2nd"
    store.write_array(path, array)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        store.write_array(path, array * 2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.b2nd"]
    assert np.array_equal(store.read_array(path), array)


def test_probabilities_come_back_within_a_step(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 5, 6, 7)) * 3
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    store.write_probabilities(tmp_path / "p.b2nd", probabilities)
    found = store.read_probabilities(tmp_path / "p.b2nd")
    assert found.dtype == np.float32
    assert np.abs(found - probabilities).max() <= 2 / 255
    assert np.array_equal(found.argmax(axis=0), probabilities.argmax(axis=0))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.just(2), st.just(2), st.just(3)),
        # Values that differ by much less than a step, at both ends and in between.
        elements=st.sampled_from([0, 1e-6, 0.001, 0.4999, 0.5, 0.5001, 0.99, 0.998, 0.999, 0.9999, 1.0]),
    )
)
def test_the_largest_class_stays_the_largest(probabilities: np.ndarray) -> None:
    levels = store.quantise(probabilities)
    assert np.array_equal(levels.argmax(axis=0), probabilities.argmax(axis=0))
    assert np.abs(levels / 255 - probabilities).max() <= 2 / 255


def test_probabilities_of_many_classes_take_a_twentieth_of_float32(tmp_path):
    # 60 round organs with soft edges, each with its own background of doubt: more doubt than a trained network has.
    rng = np.random.default_rng(0)
    places = np.moveaxis(np.indices((24, 24, 24)), 0, -1).astype(np.float32)
    logits = np.zeros((61, 24, 24, 24), np.float32)
    for layer in logits[1:]:
        layer[...] = rng.uniform(2, 5) - np.linalg.norm(places - rng.uniform(0, 24, 3), axis=-1)
        layer += rng.normal(0, 0.5, layer.shape)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    store.write_probabilities(tmp_path / "p.b2nd", probabilities)
    assert (tmp_path / "p.b2nd").stat().st_size < 0.05 * probabilities.nbytes
