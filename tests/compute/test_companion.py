from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest

from autoseg.compute.companion import NOBODY, Companion, companion
from autoseg.records.errors import DataError, ResourceError
from tests.command_line import child


def nothing() -> None:
    pass


def broken() -> None:
    raise ZeroDivisionError


def where(number: int, *, factor: int = 1) -> tuple[int, int]:
    return number * factor, os.getpid()


def refuse() -> None:
    raise DataError("is three", file="three.nii.gz", fix="Use four.", code="three")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("without_torch")
class TestBesides:
    def test_calls_are_made_in_another_process(self) -> None:
        with companion(nothing) as beside:
            first, second = beside.call(where, 2, factor=3), beside.call(where, 5)
        assert (first[0], second[0]) == (6, 5)
        assert first[1] == second[1] != os.getpid()

    def test_an_error_arrives_as_it_was_raised(self) -> None:
        with companion(nothing) as beside:
            with pytest.raises(DataError, match=r"three\.nii\.gz: is three\. Use four\."):
                beside.call(refuse)
            assert beside.call(where, 1)[0] == 1

    def test_a_warm_up_that_fails_leaves_it_to_the_calls(self) -> None:
        with companion(broken) as beside:
            assert beside.call(where, 1)[0] == 1

    def test_a_death_is_said(self) -> None:
        with companion(nothing) as beside, pytest.raises(ResourceError, match="has died"):
            beside.call(die)

    def test_the_process_ends_with_the_block(self) -> None:
        with companion(nothing) as beside:
            process = beside.call(where, 1)[1]
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
        assert not [child for child in multiprocessing.active_children() if child.pid == process]


def test_where_torch_is_loaded_everything_is_called_here() -> None:
    import torch  # noqa: F401

    with companion(broken) as beside:
        assert beside is NOBODY
        assert beside.call(where, 2)[1] == os.getpid()


def test_nobody_calls_here() -> None:
    assert Companion().call(where, 2)[1] == os.getpid()


def test_planning_leaves_torch_to_the_other_process() -> None:
    outcome = child("import sys, autoseg.pipeline.preparing; sys.exit('torch' in sys.modules)")
    assert outcome.code == 0
