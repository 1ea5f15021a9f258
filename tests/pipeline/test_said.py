"""What a prediction will take, as a person reads it."""

from __future__ import annotations

import pytest

from autoseg.pipeline.predicting import said, said_after
from autoseg.records.requests import ExpectedCost


@pytest.mark.parametrize(
    ("seconds", "memory_gb", "line"),
    [
        ([0.004], 0.01, "1 scan: under a second of computing; less than 0.1 GB of memory"),
        ([1.2], 0.61, "1 scan: about 1 second of computing; 0.6 GB of memory at most"),
        ([0.7, 0.5], 2.0, "2 scans: about 1 second of computing, under a second a scan; 2.0 GB of memory at most"),
        (
            [70.0, 50.0],
            3.2,
            "2 scans: about 120 seconds of computing, about 60.0 seconds a scan; 3.2 GB of memory at most",
        ),
    ],
)
def test_small_numbers_are_said_in_words(seconds: list[float], memory_gb: float, line: str) -> None:
    assert said([ExpectedCost(str(case), each, memory_gb, 1) for case, each in enumerate(seconds)]) == line


@pytest.mark.parametrize(
    ("scans", "seconds", "line"),
    [
        (3, 0.006, "less than 0.01 seconds a scan"),
        (3, 0.1, "0.033 seconds a scan"),
        (2, 5.0, "2.5 seconds a scan"),
        (2, 25.0, "12 seconds a scan"),
        (1, 312.4, "312 seconds a scan"),
    ],
)
def test_what_was_taken_is_said_in_digits_that_mean_something(scans: int, seconds: float, line: str) -> None:
    assert said_after(scans, seconds) == line
