from __future__ import annotations

import pytest

from autoseg.records.dataset import Channel
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.channels import guess_kind, read_channels, with_kinds


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CT", "ct"), ("MRI", "mr"), ("MR_T1", "mr"), ("T1w", "mr"), ("t1gd", "mr"), ("FLAIR", "mr"), ("ADC", "mr"),
        ("PET", "pet"), ("PET-CT", "pet"), ("US", "us"), ("R", "rgb"), ("green", "rgb"), ("rgb_to_0_1", "rgb"),
        ("noNorm", "other"), ("contrast", "other"), ("microscopy", "other"),
    ],
)  # fmt: skip
def test_kinds_from_names(name: str, kind: str) -> None:
    assert guess_kind(name) == kind


def test_order_is_by_number_and_names_are_made_distinct() -> None:
    channels = read_channels({"1": "T1", "0": "T1", "2": "CT"}, file="d.json")
    assert [channel.name for channel in channels] == ["T1", "T1_2", "CT"]


@pytest.mark.parametrize("entry", [None, {}, "CT", {"1": "CT"}, {"0": "a", "2": "b"}])
def test_wrong_entries_are_refused(entry: object) -> None:
    with pytest.raises(DataError, match="channel"):
        read_channels(entry, file="d.json")


def test_the_user_knows_better() -> None:
    channels = (Channel(name="CT", kind="ct"), Channel(name="x", kind="other"))
    assert [c.kind for c in with_kinds(channels, {"x": "pet"})] == ["ct", "pet"]
    with pytest.raises(UsageError, match="There are: CT, x"):
        with_kinds(channels, {"y": "pet"})
    with pytest.raises(UsageError, match="has no kind 'xray'"):
        with_kinds(channels, {"x": "xray"})
