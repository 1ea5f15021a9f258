"""DICOM series as the channels of cases: by modality, and by description where one modality comes more than once."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from autoseg.images.dicom.finding import Series, find
from autoseg.records.dataset import Case, Channel, Source
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.listing import enumerate_cases

MODALITIES = {"ct": "CT", "mr": "MR", "pet": "PT", "us": "US"}

log = logging.getLogger("autoseg")


def find_dicom_scans(source: Path, channels: Sequence[Channel]) -> tuple[Case, ...]:
    """Return the scans that DICOM files in a folder make, sorted by id; what was passed over is logged.

    With one channel every series of its modality is a case by itself, called by pseudonyms of patient and series.
    With several, the series of one study are a case, one a channel.

    Raises:
        UsageError: No series has the modality of a channel.
        DataError: A study lacks a channel, or has several series that could be it.
    """
    found = find(source)
    for note in found.notes:
        log.warning(note)
    usable = [item for item in found.series if any(fits(item, channel) for channel in channels)]
    passed = [item.name() for item in found.series if item not in usable]
    if passed:
        log.warning(f"{len(passed)} series are of another modality and were passed over: {enumerate_cases(passed)}.")
    if not usable:
        there = ", ".join(sorted({item.first.modality for item in found.series})) or "none"
        wanted = ", ".join(sorted({MODALITIES.get(channel.kind, "any") for channel in channels}))
        raise UsageError(
            f"there is no series of modality {wanted}; there are: {there}",
            file=source,
            fix="Give the folder of the series that the models were trained for.",
            code="no_series",
        )
    if len(channels) == 1:
        cases = [_case(item.name(), {channels[0].name: item}) for item in usable]
    else:
        cases = [_case(id, assign(group, channels, case=id)) for id, group in by_study(usable).items()]
    return tuple(sorted(_distinct(cases), key=lambda case: case.id))


def fits(series: Series, channel: Channel) -> bool:
    """Return whether a series has the modality of a channel; channels of other kinds take any."""
    return series.first.modality == MODALITIES.get(channel.kind, series.first.modality)


def by_study(series: Sequence[Series]) -> dict[str, list[Series]]:
    """Return pseudonym of the study -> its series."""
    groups: dict[str, list[Series]] = defaultdict(list)
    for item in series:
        groups[item.study_name()].append(item)
    return dict(groups)


def assign(series: Sequence[Series], channels: Sequence[Channel], *, case: str) -> dict[str, Series]:
    """Return which series of a study is which channel; an optional channel may stay empty.

    Raises:
        DataError: A channel has no series, or several that its name does not tell apart by their descriptions.
    """
    chosen: dict[str, Series] = {}
    for channel in channels:
        candidates = [item for item in series if fits(item, channel)]
        named = [item for item in candidates if _speaks_of(item, channel.name)]
        best = named if len(candidates) > 1 else candidates
        if len(best) == 1:
            chosen[channel.name] = best[0]
        elif not (channel.optional and not candidates):
            there = "; ".join(f"{item.first.modality} {item.first.description!r}" for item in series)
            count = "no series fits" if not candidates else f"{len(candidates)} series fit"
            raise DataError(
                f"{count} channel {channel.name}; the study has {there}",
                case=case,
                fix=f"Give one series a channel; its SeriesDescription should hold the word {channel.name}.",
                code="missing_channel" if not candidates else "ambiguous_channel",
            )
    return chosen


def _speaks_of(series: Series, name: str) -> bool:
    words = re.split(r"[^a-z0-9]+", series.first.description.lower())
    return name.lower() in words


def _case(id: str, chosen: dict[str, Series]) -> Case:
    images: dict[str, Source] = {name: item.source for name, item in chosen.items()}
    return Case(id=id, group=next(iter(chosen.values())).patient_name(), images=images)


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """Number cases that would share an id: series without UIDs that are alike."""
    seen: dict[str, int] = defaultdict(int)
    result = []
    for case in cases:
        seen[case.id] += 1
        number = seen[case.id]
        result.append(case if number == 1 else case.model_copy(update={"id": f"{case.id}_{number}"}))
    return result
