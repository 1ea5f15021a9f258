"""Arrays on disk: chunked, compressed, read by the window, there whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from autoseg.records.errors import DataError
from autoseg.storage import sha256_of, writing

# Patches are a few times 64 voxels wide: a window then touches few chunks and wastes little of them.
CHUNK = 64
REDO = "Run the same command again to redo this case."


def write_array(path: Path, array: np.ndarray, *, chunk: Sequence[int] | None = None, durable: bool = True) -> None:
    """Write an array as a compressed `.b2nd` file, which is there whole or not at all.

    Args:
        path: Ends in `.b2nd`.
        array: Any shape and numeric type.
        chunk: Voxels per axis that are compressed together; by default one channel and 64 along each axis.
        durable: See `storage.writing`.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    array = np.ascontiguousarray(array)
    cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1, filters=[blosc2.Filter.SHUFFLE])
    chunks = _chunks(array.shape, chunk)
    packed = blosc2.asarray(array, chunks=chunks, cparams=cparams, dparams=blosc2.DParams(nthreads=1))
    with writing(path, durable=durable) as temporary:
        temporary.write_bytes(packed.to_cframe())


def open_array(path: Path) -> Any:
    """Return an array that reads from disk the window it is sliced with, on one thread.

    Raises:
        DataError: The file is missing, cut short or damaged in its frame.
    """
    try:
        size = path.stat().st_size
        array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
    except FileNotFoundError:
        raise DataError("is missing", file=path, fix=REDO, code="missing_array") from None
    except Exception as error:  # blosc2 reports damage by many kinds of exception
        raise _damaged(path, str(error)) from None
    if not isinstance(array, blosc2.NDArray) or array.schunk.cbytes > size:
        raise _damaged(path, f"{size} bytes")
    return array


def read_array(path: Path) -> np.ndarray:
    """Return the whole array.

    Raises:
        DataError: The file is missing or damaged.
    """
    array = open_array(path)
    try:
        return np.asarray(array[:])
    except Exception as error:  # as above
        raise _damaged(path, str(error)) from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        DataError: The file is missing.
    """
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise DataError("is missing", file=path, fix=REDO, code="missing_array") from None


def check_file(path: Path, sha256: str) -> None:
    """Compare a file with the digest that was noted when it was written.

    Raises:
        DataError: It is missing, or any bit of it has changed.
    """
    if file_digest(path) != sha256:
        raise _damaged(path, "its SHA-256 is not the one noted when it was written")


def write_probabilities(path: Path, probabilities: np.ndarray) -> None:
    """Write probabilities in steps of 1/255; the class that was largest in a voxel stays the largest.

    Args:
        path: Ends in `.b2nd`.
        probabilities: (K, Z, Y, X), 0 to 1.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    write_array(path, quantise(probabilities))


def read_probabilities(path: Path) -> np.ndarray:
    """Return probabilities written by `write_probabilities`: float32, (K, Z, Y, X).

    Raises:
        DataError: The file is missing or damaged.
    """
    return read_array(path).astype(np.float32) / np.float32(255)


def quantise(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities (K, ...) as uint8 0 to 255 with the argmax over K (first of equals) unchanged."""
    levels = np.empty(probabilities.shape, np.uint8)
    best = probabilities.argmax(axis=0)[None]
    for layer, values in zip(levels, probabilities):
        layer[...] = np.clip(np.rint(np.asarray(values) * 255), 0, 255)
    # Rounding makes near ties equal, and then the first class would win: the winner is lifted by one level, and
    # where it is at the top already the others step back.
    top = np.take_along_axis(levels, best, 0)
    for value, layer in enumerate(levels):
        layer[(layer == 255) & (best[0] != value)] = 254
        top[0] = np.where((layer >= top[0]) & (value < best[0]), np.minimum(layer, 254) + 1, top[0])
    np.put_along_axis(levels, best, top, 0)
    return levels


def _chunks(shape: Sequence[int], chunk: Sequence[int] | None) -> tuple[int, ...]:
    wanted = chunk or (*(1,) * (len(shape) - 3), *(CHUNK,) * min(3, len(shape)))
    return tuple(max(1, min(size, part)) for size, part in zip(shape, wanted, strict=True))


def _damaged(path: Path, detail: str) -> DataError:
    return DataError(f"is damaged ({detail})", file=path, fix=REDO, code="damaged_array")
