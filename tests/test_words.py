"""What the words after an option mean."""

from __future__ import annotations

import pytest

from autoseg import words
from autoseg.records.errors import UsageError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ((None, 0, 1), (None, 1)),
        (("cuda:1", 0, 1), ("cuda:1", 1)),
        ((None, 4, 1), ("cuda", 4)),
        (("cuda", 2, 1), ("cuda", 2)),
        ((None, 0, 2), ("cpu", 2)),
    ],
)
def test_gpus_and_ranks_name_a_device_and_how_many_share_the_work(given, meant):
    assert words.devices(*given) == meant


@pytest.mark.parametrize("given", [("cpu", 2, 1), (None, 2, 2), ("cuda", 0, 2), ("mps", 0, 2)])
def test_gpus_ranks_and_device_that_contradict_one_another(given):
    with pytest.raises(UsageError):
        words.devices(*given)
