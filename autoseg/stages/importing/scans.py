"""Finding new scans: which files in a folder are which channel of which case."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from autoseg.images.dicom.finding import holds_dicom
from autoseg.images.files import PICTURE_SUFFIXES, is_image, strip_suffix
from autoseg.records.dataset import Case, Channel, FileSource, Source, check_name
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.dicom_scans import find_dicom_scans
from autoseg.stages.importing.gi_tract import SLICE, sliced_scans
from autoseg.stages.importing.listing import check_ids
from autoseg.stages.importing.volumes import LABEL_FOLDERS, is_label_name, is_label_of


def find_scans(source: Path, channels: Sequence[Channel]) -> tuple[Case, ...]:
    """Return the scans in a folder (or the one file) in the order of their ids.

    A file belongs to channel i when its name ends in `_000i`, in `_IMG_<channel>` or in `_<channel>`, or is the
    channel's name in a folder a case (`s0001/ct.nii.gz`); with one channel every image is a case by itself, with
    several a single 4D file may hold them all. Slices named as UW-Madison names them are one scan. Labels that lie
    beside the images are passed over. DICOM series are found by content; pictures that lie beside them are previews.

    Raises:
        UsageError: There is no such folder, or no image in it.
        DataError: Cases lack a channel that is not optional or have one too many, or two files claim to be the same
            channel.
    """
    if not source.exists():
        raise UsageError(
            "there is no such file or folder", file=source, fix="Check the path after -i.", code="no_input"
        )
    files = [source] if source.is_file() else _images(source, channels)
    dicom = find_dicom_scans(source, channels) if holds_dicom(source) else ()
    if dicom:
        files = [path for path in files if is_image(path) and path.suffix.lower() not in PICTURE_SUFFIXES]
    if dicom and not files:
        return dicom
    if not files:
        raise UsageError("there is no image in here", file=source, fix="Expected files like case.nii.gz.", code="empty")
    sliced = {} if source.is_file() or len(channels) > 1 else sliced_scans(files)
    if sliced:
        files = [path for path in files if not SLICE.fullmatch(path.name)]
    _check_no_more(files, channels)
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
    for sources in found.values():
        _spread_colours(sources, channels)
    _check_complete(found, channels, source)
    check_ids([*found, *sliced], file=source)
    whole = {id: Case(id=id, group=id, images={channels[0].name: slices}) for id, slices in sliced.items()}
    cases = {id: _case(id, sources, channels) for id, sources in found.items()} | whole
    return (*dicom, *(cases[id] for id in sorted(cases)))


def _case(id: str, sources: dict[str, FileSource], channels: Sequence[Channel]) -> Case:
    images: dict[str, Source] = {c.name: sources[c.name] for c in channels if c.name in sources}
    return Case(id=id, group=id, images=images)


def _spread_colours(sources: dict[str, FileSource], channels: Sequence[Channel]) -> None:
    """Take one picture `x_0000.png` for all three colours, as nnU-Net names it."""
    if len(channels) == 3 and all(channel.kind == "rgb" for channel in channels) and [*sources] == [channels[0].name]:
        (only,) = sources.values()
        sources |= {channel.name: FileSource(path=only.path, volume=n) for n, channel in enumerate(channels)}


def _check_complete(found: dict[str, dict[str, FileSource]], channels: Sequence[Channel], folder: Path) -> None:
    """Refuse cases that lack a channel, all of them at once."""
    lacking = {
        id: [channel.name for channel in channels if channel.name not in found[id] and not channel.optional]
        for id in sorted(found)
    }
    lacking = {id: names for id, names in lacking.items() if names}
    if not lacking:
        return
    first, names = next(iter(lacking.items()))
    number = [channel.name for channel in channels].index(names[0])
    listed = ", ".join(f"{id} ({', '.join(names)})" for id, names in lacking.items())
    raise DataError(
        f"{len(lacking)} of {len(found)} scans lack a channel: {listed}",
        case=first if len(lacking) == 1 else None,
        file=folder,
        fix=f"Add it as {first}_{names[0]}.nii.gz or {first}_{number:04d}.nii.gz.",
        code="missing_channel",
    )


def _check_no_more(files: Sequence[Path], channels: Sequence[Channel]) -> None:
    """Refuse a channel number that no model knows beside `case_0000`; without that, the name may just end so."""
    there = {strip_suffix(path.name) for path in files}
    for path in files:
        number = re.fullmatch(r"(.+)_(\d{4})", strip_suffix(path.name))
        if number and int(number[2]) >= len(channels) and f"{number[1]}_0000" in there:
            raise DataError(
                f"is one channel more than the {len(channels)} that the models were trained with "
                f"({', '.join(channel.name for channel in channels)})",
                case=number[1],
                file=path,
                fix="Remove it, or keep only the channels that the models know.",
                code="extra_channel",
            )


def _name(path: Path, channels: Sequence[Channel]) -> tuple[str, str | None]:
    """Return the case and the channel of a file; no channel when the one file holds all of them."""
    stem = strip_suffix(path.name)
    number = re.fullmatch(r"(.+)_(\d{4})", stem)
    if number and int(number[2]) < len(channels):
        return number[1], channels[int(number[2])].name
    for channel in channels:
        if stem.lower() == channel.name.lower() and path.absolute().parent.name:
            return path.absolute().parent.name, channel.name
        for ending in (f"_IMG_{channel.name}", f"_{channel.name}", f"-{channel.name}"):
            if stem.lower().endswith(ending.lower()) and len(stem) > len(ending):
                return stem[: -len(ending)], channel.name
    return stem, channels[0].name if len(channels) == 1 else None


def _images(source: Path, channels: Sequence[Channel]) -> list[Path]:
    """Return the images below a folder without the labels that lie among them."""
    paths = [path for path in sorted(source.rglob("*")) if is_image(path) and not _is_segmentation(path, source)]
    stems: dict[Path, list[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, []).append(strip_suffix(path.name))
    names = {channel.name.lower() for channel in channels}
    return [path for path in paths if not _is_label_beside(strip_suffix(path.name), stems[path.parent], names)]


def _is_label_beside(stem: str, stems: Sequence[str], channels: Collection[str]) -> bool:
    """Whether a name says labels, and what it would be the labels of lies beside it."""
    if not is_label_name(stem) or stem.lower() in channels:
        return False
    return any(other.lower() in channels or (other != stem and is_label_of(stem, other)) for other in stems)


def _is_segmentation(path: Path, source: Path) -> bool:
    folders = {part.lower() for part in path.relative_to(source).parts[:-1]}
    return ".seg." in path.name or "_OAR_" in path.name or bool(folders & {*LABEL_FOLDERS, "labelstr", "derivatives"})
