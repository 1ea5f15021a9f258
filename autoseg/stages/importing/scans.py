"""Finding new scans: which files in a folder are which channel of which case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autoseg.images.files import is_image, strip_suffix
from autoseg.records.dataset import Case, Channel, FileSource, Source, check_name
from autoseg.records.errors import DataError, UsageError


def find_scans(source: Path, channels: Sequence[Channel]) -> tuple[Case, ...]:
    """Return the scans in a folder (or the one file) in the order of their ids.

    A file belongs to channel i when its name ends in `_000i`, in `_IMG_<channel>` or in `_<channel>`; with one
    channel every image is a case by itself, with several a single 4D file may hold them all.

    Raises:
        UsageError: There is no such folder, or no image in it.
        DataError: A case lacks a channel that is not optional, or two files claim to be the same channel.
    """
    if not source.exists():
        raise UsageError(
            "there is no such file or folder", file=source, fix="Check the path after -i.", code="no_input"
        )
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    files = [path for path in files if is_image(path) and not _is_segmentation(path)]
    if not files:
        raise UsageError("there is no image in here", file=source, fix="Expected files like case.nii.gz.", code="empty")
    found: dict[str, dict[str, FileSource]] = {}
    for path in files:
        case, channel = _name(path, channels)
        sources = found.setdefault(check_name(case, what="case id", file=path), {})
        for name, volume in [(channel, None)] if channel else [(c.name, i) for i, c in enumerate(channels)]:
            if name in sources:
                raise DataError(
                    f"is channel {name} of case {case}, but so is {sources[name].path}",
                    file=path,
                    fix="Rename or remove one of them.",
                    code="duplicate_case",
                )
            sources[name] = FileSource(path=str(path.absolute()), volume=volume)
    return tuple(_case(case, found[case], channels, source) for case in sorted(found))


def _case(id: str, sources: dict[str, FileSource], channels: Sequence[Channel], folder: Path) -> Case:
    missing = [channel.name for channel in channels if channel.name not in sources and not channel.optional]
    if missing:
        number = next(index for index, channel in enumerate(channels) if channel.name == missing[0])
        raise DataError(
            f"there is no file for channel {', '.join(missing)} (found: {', '.join(sorted(sources))})",
            case=id,
            file=folder,
            fix=f"Add it as {id}_{missing[0]}.nii.gz or {id}_{number:04d}.nii.gz.",
            code="missing_channel",
        )
    images: dict[str, Source] = dict(sources)
    return Case(id=id, group=id, images=images)


def _name(path: Path, channels: Sequence[Channel]) -> tuple[str, str | None]:
    """Return the case and the channel of a file; no channel when the one file holds all of them."""
    stem = strip_suffix(path.name)
    number = re.fullmatch(r"(.+)_(\d{4})", stem)
    if number and int(number[2]) < len(channels):
        return number[1], channels[int(number[2])].name
    for channel in channels:
        for ending in (f"_IMG_{channel.name}", f"_{channel.name}"):
            if stem.lower().endswith(ending.lower()) and len(stem) > len(ending):
                return stem[: -len(ending)], channel.name
    return stem, channels[0].name if len(channels) == 1 else None


def _is_segmentation(path: Path) -> bool:
    return ".seg." in path.name or "_OAR_" in path.name
