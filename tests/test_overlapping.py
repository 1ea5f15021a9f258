"""Items are read ahead and written behind, in order, and one that fails does not stop the others."""

from __future__ import annotations

import threading

import pytest

from autoseg.pipeline.overlapping import overlapped
from autoseg.records.errors import DataError, ResourceError, UserError


def test_the_next_item_is_read_and_the_last_written_while_one_is_computed() -> None:
    read_next, computing = threading.Event(), threading.Event()

    def read(item: int) -> int:
        if item == 1:
            read_next.set()
        return 10 * item

    def compute(item: int, value: int) -> int:
        if item == 0:
            assert read_next.wait(10), "item 1 is not read while item 0 is computed"
        if item == 1:
            computing.set()
        return value + 1

    def write(item: int, value: int) -> str:
        if item == 0:
            assert computing.wait(10), "item 1 is not computed while item 0 is written"
        return str(value)

    assert list(overlapped([0, 1, 2], read, compute, write)) == [(0, "1"), (1, "11"), (2, "21")]
    assert list(overlapped([], read, compute, write)) == []


def test_an_item_that_cannot_be_read_or_computed_does_not_stop_the_others() -> None:
    def read(item: int) -> int:
        if item == 1:
            raise DataError("bad file")
        return item

    def compute(item: int, value: int) -> int:
        if item == 2:
            raise UserError("bad network")
        return value

    found = dict(overlapped([0, 1, 2, 3], read, compute, lambda item, value: value))
    assert {item: str(outcome) for item, outcome in found.items()} == {
        0: "0",
        1: "bad file.",
        2: "bad network.",
        3: "3",
    }


def test_an_error_of_writing_ends_the_run() -> None:
    computed = []

    def write(item: int, value: int) -> int:
        raise ResourceError("disk full")

    with pytest.raises(ResourceError, match="disk full"):
        list(overlapped(range(5), lambda item: item, lambda item, value: computed.append(item), write))
    assert len(computed) < 5
