"""Channels of a data set, from the names that its author gave them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from autoseg.records.dataset import Channel
from autoseg.records.errors import DataError, UsageError

Kind = Literal["ct", "mr", "pet", "us", "rgb", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# The first kind whose pattern fits one word of the name; "PET-CT" is the PET of the pair, hence pet before ct.
WORDS: tuple[tuple[Kind, str], ...] = (
    ("pet", r"pet|suv|fdg|psma"),
    ("mr", r"mri?|t[12]\w*|flair|dwi|adc|swi|pdw?|mprage|mra|bold"),
    ("ct", r"ct|cbct|ldct|ncct|cta|hu"),
    ("us", r"us|ultrasound|sonography"),
    ("rgb", r"rgb|[rgb]|red|green|blue"),
)


def guess_kind(name: str) -> Kind:
    """Return what kind of image a channel's name speaks of, `other` when it speaks of none."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    for kind, pattern in WORDS:
        if any(re.fullmatch(pattern, word) for word in words):
            return kind
    return "other"


def read_channels(entry: Any, *, file: object) -> tuple[Channel, ...]:
    """Return the channels of a `channel_names` or `modality` entry: `{"0": "T1", ...}` or a list of names.

    Raises:
        DataError: The numbers are not 0, 1, 2 ... or a name is not a text.
    """
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        entry = {str(position): name for position, name in enumerate(entry)}
    if not isinstance(entry, Mapping) or not entry:
        raise DataError(
            "does not say which channels there are",
            file=file,
            fix='Add "channel_names": {"0": "CT"}, one entry a channel.',
            code="no_channels",
        )
    if sorted(entry) != sorted(str(position) for position in range(len(entry))):
        raise DataError(
            f"channel numbers are {', '.join(entry)} but must be 0 to {len(entry) - 1}",
            file=file,
            fix="Number the channels 0, 1, 2 ... as the file names do (_0000, _0001 ...).",
            code="channel_numbers",
        )
    names = _distinct([str(entry[str(position)]).strip() for position in range(len(entry))])
    return tuple(Channel(name=name, kind=guess_kind(name)) for name in names)


def with_kinds(channels: Sequence[Channel], kinds: Mapping[str, str]) -> tuple[Channel, ...]:
    """Return the channels with the kinds that the user gave.

    Raises:
        UsageError: There is no such channel, or no such kind.
    """
    for name, kind in kinds.items():
        check_channel(name, channels)
        if kind not in KINDS:
            raise UsageError(f"channel {name} has no kind {kind!r}", fix=f"There are: {', '.join(KINDS)}.")
    return tuple(
        channel.model_copy(update={"kind": kinds[channel.name]}) if channel.name in kinds else channel
        for channel in channels
    )


def with_optional(channels: Sequence[Channel], names: Sequence[str]) -> tuple[Channel, ...]:
    """Return the channels with those marked that cases may lack.

    Raises:
        UsageError: There is no such channel.
    """
    for name in names:
        check_channel(name, channels)
    return tuple(item.model_copy(update={"optional": True}) if item.name in names else item for item in channels)


def check_channel(name: str, channels: Sequence[Channel]) -> None:
    """Raise a UsageError that lists the channels unless one of them is called `name`."""
    names = [channel.name for channel in channels]
    if name not in names:
        raise UsageError(f"there is no channel {name!r}", fix=f"There are: {', '.join(names)}.", code="no_channel")


def _distinct(names: Sequence[str]) -> list[str]:
    """Number names that come more than once: T1, T1_2, T1_3; an empty name becomes `channel`."""
    distinct: list[str] = []
    for name in names:
        stem, count = name or "channel", 1
        fresh = stem
        while fresh in distinct:
            count += 1
            fresh = f"{stem}_{count}"
        distinct.append(fresh)
    return distinct
