"""A process that keeps its memory takes pages from the system once, and not again for every array."""

from __future__ import annotations

import pytest

from tests.command_line import child

PROGRAM = """
import resource, sys
from threading import Thread
from autoseg.compute.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("another C library")

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def touch():
    b"x" * (64 * 2**20)

def often():
    touch()
    before = faults()
    for _ in range(5):
        touch()
    print(faults() - before)

often()
thread = Thread(target=often)
thread.start()
thread.join()
"""


def test_arrays_that_come_again_find_their_pages() -> None:
    kept, left = (child(PROGRAM, word) for word in ("keep", "leave"))
    if kept.code:
        pytest.skip(kept.err)
    assert all(int(count) < 100 for count in kept.out.split())
    assert all(int(count) > 10_000 for count in left.out.split())
