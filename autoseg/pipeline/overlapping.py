"""Reading the next item and writing the last one while the present one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from autoseg.records.errors import UserError

I = TypeVar("I")  # noqa: E741
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def overlapped(
    items: Sequence[I], read: Callable[[I], A], compute: Callable[[I, A], B], write: Callable[[I, B], C]
) -> Iterator[tuple[I, C | UserError]]:
    """Yield (item, what `write` returned) in the order of the items.

    Computing stays in the calling thread; at most one item is read ahead and one is written behind, so that at most
    three are in memory. A `UserError` of reading or computing is yielded in place of that item's result and the
    others go on; an error of writing (a full disk would meet every item) ends the run once what was written is there.

    Args:
        items: What is done, one after the other.
        read: In a thread of its own.
        compute: Given the item and what was read.
        write: In a thread of its own, given the item and what was computed.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        writing: tuple[I, Future[C]] | None = None
        ahead = reader.submit(read, items[0]) if items else None
        for number, item in enumerate(items):
            assert ahead is not None
            reading, ahead = ahead, reader.submit(read, items[number + 1]) if number + 1 < len(items) else None
            result: B | UserError
            try:
                result = compute(item, reading.result())
            except UserError as error:
                result = error
            if writing is not None:
                yield writing[0], writing[1].result()
                writing = None
            if isinstance(result, UserError):
                yield item, result
            else:
                writing = item, writer.submit(write, item, result)
            del reading, result
        if writing is not None:
            yield writing[0], writing[1].result()
