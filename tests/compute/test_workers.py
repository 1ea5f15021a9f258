from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from autoseg.compute import workers
from autoseg.compute.workers import default_workers, map_cases
from autoseg.records.errors import DataError, ResourceError, UserError


def square(number: int) -> int:
    if number == 3:
        raise DataError("is three", file="three.nii.gz", fix="Use four.", code="three")
    if number == 5:
        raise ZeroDivisionError("five")
    return number * number


def die(argument: tuple[str, int]) -> int:
    """Die on number 2, always or only the first time (a file remembers)."""
    memory, number = argument
    if number == 2 and not (memory and os.path.exists(memory)):
        if memory:
            Path(memory).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(number: int) -> int:
    sys.exit(7) if number == 1 else None
    return number


def vanish(number: int) -> int:
    os._exit(9)


def no_memory(number: int) -> int:
    raise MemoryError


def cannot_travel(number: int) -> object:
    return lambda: number


def slow(number: int) -> int:
    time.sleep(60 if number else 0)
    return os.getpid()


def surroundings(number: int) -> tuple[str, bool, bool]:
    return os.environ["OMP_NUM_THREADS"], "torch" in sys.modules, "SimpleITK" in sys.modules


def items(count: int) -> list[tuple[str, int]]:
    return [(f"case_{number}", number) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2])
def test_results_and_errors_carry_their_case(count: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "autoseg.compute.workers"):
        found = dict(map_cases(square, items(7), workers=count))
    assert {case: value for case, value in found.items() if isinstance(value, int)} == {
        "case_0": 0, "case_1": 1, "case_2": 4, "case_4": 16, "case_6": 36
    }  # fmt: skip
    assert isinstance(found["case_3"], DataError)
    assert str(found["case_3"]) == "case_3: three.nii.gz: is three. Use four."
    bug = found["case_5"]
    assert isinstance(bug, UserError)
    assert (bug.case, bug.code) == ("case_5", "bug")
    assert "ZeroDivisionError: five" in bug.what
    assert "Traceback" not in str(bug)
    assert "in square" in caplog.text  # the traceback is there for those who look for it


def test_one_worker_keeps_the_order() -> None:
    assert [case for case, _ in map_cases(square, items(3), workers=1)] == ["case_0", "case_1", "case_2"]


def test_no_items() -> None:
    assert list(map_cases(square, [])) == []


def test_a_killed_worker_is_named_and_the_others_finish() -> None:
    found = dict(map_cases(die, [(case, ("", n)) for case, n in items(4)], workers=2, label="testing"))
    error = found.pop("case_2")
    assert found == {"case_0": 0, "case_1": 1, "case_3": 3}
    assert isinstance(error, ResourceError)
    assert str(error).startswith("case_2: the process that worked on this case was ended by signal 9 (SIGKILL).")
    assert "out of memory" in error.fix


def test_a_killed_case_is_tried_once_more(tmp_path: Path) -> None:
    memory = str(tmp_path / "died")
    found = list(map_cases(die, [(case, (memory, n)) for case, n in items(4)], workers=2))
    assert found[-1] == ("case_2", 2)  # after all the others
    assert len(found) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_a_case_that_exits_does_not_stop_the_others(count: int) -> None:
    found = dict(map_cases(leave, items(3), workers=count))
    error = found.pop("case_1")
    assert found == {"case_0": 0, "case_2": 2}
    assert isinstance(error, UserError)
    assert "SystemExit: 7" in error.what


def test_a_worker_that_vanishes_is_named() -> None:
    found = dict(map_cases(vanish, items(2), workers=2))
    assert "ended by itself with exit code 9" in str(found["case_0"])


def test_lack_of_memory_says_so() -> None:
    ((_, error),) = map_cases(no_memory, items(1))
    assert isinstance(error, ResourceError)
    assert str(error) == (
        "case_0: there is not enough memory for this case. "
        "Use fewer workers, close other programs, or use a larger machine."
    )


def test_a_result_that_cannot_travel_is_a_bug_of_its_case() -> None:
    found = dict(map_cases(cannot_travel, items(2), workers=2))
    assert {error.code for error in found.values() if isinstance(error, UserError)} == {"bug"}


def test_stopping_early_ends_the_workers() -> None:
    running = map_cases(slow, items(2), workers=2)
    started = time.monotonic()
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 20


def test_workers_start_light_and_compute_on_one_thread() -> None:
    for _, found in map_cases(surroundings, items(2), workers=2):
        assert found == ("1", False, False)


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "free_memory_bytes", lambda: 5 * 2**30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert default_workers(100) == 2
    assert default_workers(100, bytes_each=2**30) == 5
    assert default_workers(1) == 1
    monkeypatch.setattr(workers, "free_memory_bytes", lambda: 0)
    assert default_workers(100) == 1
    monkeypatch.setattr(workers, "free_memory_bytes", lambda: None)
    assert default_workers(100) == 8
    assert default_workers(0) == 1


def test_free_memory_is_plausible() -> None:
    free = workers.free_memory_bytes()
    assert free is None or 2**20 < free < 2**50


def test_small_files_are_read_without_starting_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(10))
    monkeypatch.setattr(workers, "SMALL_BYTES", 30)
    assert workers.suited(None, [small, small, tmp_path / "missing"]) == 1
    large = tmp_path / "large"
    large.write_bytes(bytes(25))
    assert workers.suited(None, [small, large]) is None
    assert workers.suited(3, [small]) == 3
