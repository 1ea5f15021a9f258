"""Scans kept slice by slice: one picture a slice, and run lengths a slice and class in a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autoseg.images import header as headers
from autoseg.images import pictures
from autoseg.images.header import VolumeHeader
from autoseg.records.dataset import RunLengthSource, SlicesSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid, Shape

COLUMNS = ("id", "class", "segmentation")


def read(source: SlicesSource) -> tuple[np.ndarray, VolumeHeader]:
    """Return the pictures on top of one another as (Z, Y, X), with the identity as direction, and the header.

    Raises:
        DataError: There is no picture, one is damaged or coloured, or two differ in size or type.
    """
    if not source.paths:
        raise DataError("has no slice", fix="Check the folder of the scan.", code="empty_axis")
    stack: np.ndarray | None = None
    for z, path in enumerate(map(Path, source.paths)):
        array, found = pictures.read(path)
        if stack is None:
            stack = np.empty((len(source.paths), *array.shape[1:]), array.dtype)
        _require_alike(array, stack, path, Path(source.paths[0]))
        stack[z] = array[0]
    assert stack is not None
    shape = (stack.shape[0], stack.shape[1], stack.shape[2])
    grid = headers.check_grid(Grid(shape=shape, spacing_mm=source.spacing_mm), file=Path(source.paths[0]))
    notes = tuple(note for note in found.notes if note != pictures.PIXEL_NOTE)
    return stack, VolumeHeader(grid=grid, volumes=1, dtype=stack.dtype.name, notes=notes)


def read_labels(source: RunLengthSource, shape: Shape) -> np.ndarray:
    """Return the inside values (Z, Y, X), int16, that the run lengths of a scan paint on a grid of `shape`.

    Raises:
        DataError: The table cannot be read, a row names a slice or a class that does not exist, a run leaves the
            slice, or classes overlap in a way that the import did not meet.
    """
    file = Path(source.path)
    names = sorted({name for item in source.combinations for name in item.classes})
    bits = {name: 1 << place for place, name in enumerate(names)}
    together = np.zeros(shape, np.min_scalar_type((1 << len(names)) - 1))
    for id, name, text in read_rows(file, prefix=source.prefix):
        if text:
            z = _slice_number(id, source, shape[0])
            if name not in bits:
                raise _stale(f"row {id} has the class {name!r}", file)
            together[z] |= decode(text, shape[1:], file=file, id=id).astype(together.dtype) * bits[name]
    table = np.full(1 << len(names), -1, np.int16)
    table[0] = 0
    for item in source.combinations:
        table[sum(bits[name] for name in item.classes)] = item.value
    values = table[together]
    if (values < 0).any():
        odd = int(together[values < 0][0])
        raise _stale(f"{' and '.join(name for name in names if bits[name] & odd)} overlap", file)
    return values


def read_rows(file: Path, *, prefix: str = "", text: str = COLUMNS[2]) -> Iterator[tuple[str, str, str]]:
    """Yield (id, class, run lengths) of the rows of a table whose id begins with `prefix`; "" is an absent class.

    `text` is the name of the column with the run lengths.

    Raises:
        DataError: The table is missing, is no UTF-8, lacks a column or a cell.
    """
    try:
        rows = csv.reader(io.StringIO(headers.read_bytes(file).decode("utf-8-sig")))
        head = [cell.strip() for cell in next(rows, [])]
        columns = (*COLUMNS[:2], text)
        if not set(columns) <= set(head):
            raise _bad_table(f"has the columns {', '.join(head) or 'none'}", file, text=text)
        id, name, runs = (head.index(column) for column in columns)
        for row in rows:
            if row and len(row) < len(head):
                raise _bad_table(f"line {rows.line_num} has {len(row)} cells", file)
            if row and row[id].startswith(prefix):
                yield row[id], row[name], row[runs].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad_table(f"cannot be read: {error}", file) from None


def read_runs(text: str, *, file: Path, id: str) -> np.ndarray:
    """Return the runs of `start length start length ...` as (N, 2): first pixel and the one behind the last, from 0.

    Raises:
        DataError: It is no list of pairs of whole numbers, starts and lengths from 1 on.
    """
    words = text.split()
    if len(words) % 2 or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise _bad_runs("are no pairs of whole numbers", file, id)
    pairs = np.array(words, np.int64).reshape(-1, 2)
    if (pairs < 1).any():
        raise _bad_runs("hold a start or a length of 0; both count from 1", file, id)
    first = pairs[:, 0] - 1
    return np.stack([first, first + pairs[:, 1]], axis=1)


def decode(text: str, shape: tuple[int, int], *, file: Path, id: str) -> np.ndarray:
    """Return where a class is as bool (Y, X), from run lengths that count pixels from 1 along the rows.

    Raises:
        DataError: See `read_runs`; or a run leaves the slice.
    """
    runs, size = read_runs(text, file=file, id=id), shape[0] * shape[1]
    if runs.size and runs.max() > size:
        raise _bad_runs(f"reach pixel {runs.max()} of a slice of {shape[0]} x {shape[1]} (y, x)", file, id)
    steps = np.zeros(size + 1, np.int32)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs[:, 1], -1)
    return np.asarray(np.cumsum(steps[:-1]) > 0).reshape(shape)


def encode(mask: np.ndarray) -> str:
    """Return the run lengths of a bool (Y, X), "" where it is empty; the inverse of `decode`."""
    flat = np.concatenate([[0], np.asarray(mask, np.bool_).ravel().astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    return " ".join(f"{first + 1} {stop - first}" for first, stop in edges.reshape(-1, 2))


def _slice_number(id: str, source: RunLengthSource, count: int) -> int:
    number = id[len(source.prefix) :]
    if not number.isdigit() or not 0 <= int(number) - source.first < count:
        raise _stale(f"row {id} belongs to none of the {count} slices", Path(source.path))
    return int(number) - source.first


def _require_alike(array: np.ndarray, stack: np.ndarray, path: Path, first: Path) -> None:
    if array.shape[1:] != stack.shape[1:] or array.dtype != stack.dtype:
        raise DataError(
            f"is {array.shape[1:]} pixels (y, x) of {array.dtype}, but {first.name} is {stack.shape[1:]} of "
            f"{stack.dtype}",
            file=path,
            fix="All slices of a scan must be alike; copy them again.",
            code="slice_mismatch",
        )


def _stale(what: str, file: Path) -> DataError:
    fix = "Correct the table, or import again if it has changed."
    return DataError(f"{what}, which the import did not meet", file=file, fix=fix, code="bad_run_lengths")


def _bad_runs(what: str, file: Path, id: str) -> DataError:
    fix = "Write `start length` pairs, counted from 1 along the rows."
    return DataError(f"the run lengths of {id} {what}", file=file, fix=fix, code="bad_run_lengths")


def _bad_table(what: str, file: Path, *, text: str = COLUMNS[2]) -> DataError:
    return DataError(what, file=file, fix=f"It must have the columns id, class and {text}.", code="bad_table")
