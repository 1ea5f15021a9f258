"""A datalist as MONAI writes it: one JSON file that lists images, labels and folds.

`{"training": [{"image": "a.nii.gz" or ["t1.nii.gz", "t2.nii.gz"], "label": "l.nii.gz", "fold": 0}], "testing": [...]}`.
Source: the documentation of `monai.data.load_decathlon_datalist` and of Auto3DSeg.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError, UserError
from autoseg.records.labels import Labels
from autoseg.stages.importing.channels import read_channels
from autoseg.stages.importing.descriptions import read_description
from autoseg.stages.importing.draft import Draft, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases, listed_file
from autoseg.stages.importing.structures import read_structures
from autoseg.stages.importing.unnamed import MOST_VOLUMES, name_structures

TESTS = ("testing", "test")


@dataclass(frozen=True)
class Entry:
    """One line of the list: where it stands, its files as they are written, and the fold that holds it out."""

    part: str
    images: tuple[str, ...]
    label: str | None
    fold: int | None


def recognise(source: Path) -> bool:
    """Return whether this is a datalist, or a folder with exactly one."""
    return len(_datalists(source)) == 1


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the list names.

    Raises:
        DataError: An entry is not understood or leads outside of the list's folder, some entries have a fold and
            others have none, or files are missing (all are listed).
    """
    (file,) = _datalists(source)
    description = read_description(file)
    entries = _name(_entries(description, file), file)
    skipped = frozenset(options.skip) & entries.keys()
    kept = {id: entry for id, entry in sorted(entries.items()) if id not in skipped and entry.label is not None}
    if not kept:
        raise DataError("lists no case with labels", file=file, fix="Check the file.", code="no_cases")
    images = {id: [listed_file(file.parent, path, file=file) for path in entry.images] for id, entry in kept.items()}
    truths = {id: listed_file(file.parent, str(entry.label), file=file) for id, entry in kept.items()}
    held_out = _held_out(kept, file)
    _check_files({id: [*images[id], truths[id]] for id in kept}, file)
    channels, several = _channels(description, images, file)
    labels, notes = _labels(description, list(truths.values()), file)
    unlabelled = sum(entry.label is None for entry in entries.values())
    notes += (f"{unlabelled} scans have no labels and were not imported.",) if unlabelled else ()
    cases = tuple(
        Case(id=id, group=id, images=_sources(images[id], channels, several), labels=FileSource(path=str(truths[id])))
        for id in kept
    )
    return Draft(
        channels=channels,
        labels=labels,
        cases=cases,
        notes=notes,
        skipped=skipped,
        held_out=held_out,
        test_cases=tuple(id for id, entry in kept.items() if entry.part in TESTS),
    )


def _datalists(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" and _is_datalist(source) else []
    files = sorted(path for path in source.glob("*.json") if not path.name.startswith("."))
    return [path for path in files if _is_datalist(path)]


def _is_datalist(file: Path) -> bool:
    try:
        entries = read_description(file).get("training")
    except DataError:
        return False
    return isinstance(entries, list) and any(isinstance(entry, Mapping) and "image" in entry for entry in entries)


def _entries(description: Mapping[str, Any], file: Path) -> list[Entry]:
    entries = []
    for part in ("training", "validation", *TESTS):
        listed = description.get(part, [])
        if not isinstance(listed, list):
            raise DataError(f"{part!r} is no list", file=file, fix="List the cases.", code="bad_entry")
        entries += [_entry(entry, part, number, file) for number, entry in enumerate(listed)]
    return entries


def _entry(entry: Any, part: str, number: int, file: Path) -> Entry:
    if isinstance(entry, str) and part in TESTS:
        entry = {"image": entry}
    if isinstance(entry, Mapping):
        image, label, fold = entry.get("image"), entry.get("label"), entry.get("fold")
        images = (image,) if isinstance(image, str) else tuple(image) if isinstance(image, list) else ()
        right_images = bool(images) and all(isinstance(path, str) for path in images)
        right_label = isinstance(label, str) or (label is None and part != "training")
        right_fold = fold is None or (isinstance(fold, int) and not isinstance(fold, bool) and fold >= 0)
        if right_images and right_label and right_fold:
            return Entry(part, images, label, fold)
    raise DataError(
        f"entry {number} of {part!r} is not understood",
        file=file,
        fix='It must be {"image": "x.nii.gz", "label": "y.nii.gz", "fold": 0}; the image may be a list of channels.',
        code="bad_entry",
    )


def _name(entries: Sequence[Entry], file: Path) -> dict[str, Entry]:
    """Return case id -> entry: what the names of its images share, with their folders where that is not distinct."""
    ids = [_stem([PurePosixPath(path).name for path in entry.images]) for entry in entries]
    if len({id.lower() for id in ids}) < len(ids):
        ids = [_stem([_whole(path) for path in entry.images]) for entry in entries]
    named: dict[str, Entry] = {}
    for id, entry in zip(ids, entries, strict=True):
        if id in named:
            raise DataError(
                "is listed twice", case=id, file=file, fix="Keep one of the two entries.", code="duplicate_case"
            )
        named[id] = entry
    check_ids(named, file=file)
    return named


def _stem(names: Sequence[str]) -> str:
    from autoseg.images.files import strip_suffix

    stems = [strip_suffix(name) for name in names]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    shared = "".join(letters[0] for letters in alike)
    if len(stems) > 1:  # `x_t1` and `x_t2` share `x_t`, of which `x` is the case
        shared = re.sub(r"[^-_.]*$", "", shared)
    return shared.rstrip("-_.") or stems[0]


def _whole(path: str) -> str:
    return "_".join(part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in (".", "/"))


def _channels(
    description: Mapping[str, Any], images: Mapping[str, Sequence[Path]], file: Path
) -> tuple[tuple[Channel, ...], bool]:
    """Return the channels, and whether several of them lie in one file."""
    counts = {id: len(paths) for id, paths in images.items()}
    usual = max(counts.values())
    odd = [id for id, count in counts.items() if count != usual]
    if odd:
        raise DataError(
            f"{len(odd)} of {len(counts)} cases have fewer than {usual} images: {enumerate_cases(odd)}",
            file=file,
            fix="Every case needs every channel, in one order; or use --skip.",
            code="missing_channel",
        )
    volumes = _volumes(next(iter(images.values()))[0]) if usual == 1 else 1
    named = description.get("channel_names", description.get("modality"))
    if isinstance(named, str):
        named = [named]
    number = usual * volumes
    plain = ["image"] if number == 1 else _endings(images) or [f"image_{i}" for i in range(number)]
    channels = read_channels(named or plain, file=file)
    if len(channels) != number:
        raise DataError(
            f"names {len(channels)} channels, but its images have {number}",
            file=file,
            fix='Name each of them in "channel_names".',
            code="channel_numbers",
        )
    return channels, volumes > 1


def _endings(images: Mapping[str, Sequence[Path]]) -> list[str] | None:
    """Return what the names of a case's images end in (`a_t1`, `a_t2`: t1, t2) where all cases agree, else None."""
    from autoseg.images.files import strip_suffix

    found = set()
    for paths in images.values():
        stems = [strip_suffix(path.name) for path in paths]
        shared = _stem([path.name for path in paths])
        found.add(tuple(stem[len(shared) :].strip("-_.") for stem in stems))
    (names, *others) = found
    distinct = len(set(names)) == len(names) > 1 and all(names)
    return list(names) if distinct and not others and not any(name.isdigit() for name in names) else None


def _volumes(path: Path) -> int:
    from autoseg.images.files import read_header

    try:
        return read_header(path).volumes
    except UserError:
        return 1  # the check says what is wrong with this file


def _labels(description: Mapping[str, Any], truths: Sequence[Path], file: Path) -> tuple[Labels, tuple[str, ...]]:
    if "labels" in description:
        return read_structures(description["labels"], order=description.get("regions_class_order"), file=file)
    return name_structures(truths, source=file, most=MOST_VOLUMES)


def _sources(paths: Sequence[Path], channels: Sequence[Channel], several: bool) -> dict[str, DataSource]:
    if several:
        return {channel.name: FileSource(path=str(paths[0]), volume=i) for i, channel in enumerate(channels)}
    return {channel.name: FileSource(path=str(path)) for channel, path in zip(channels, paths, strict=True)}


def _held_out(entries: Mapping[str, Entry], file: Path) -> dict[str, int | None] | None:
    """Return case id -> fold; cases of "validation" are a fold of their own where they have no number."""
    trained = {id: entry for id, entry in entries.items() if entry.part not in TESTS}
    without = [id for id, entry in trained.items() if entry.fold is None and entry.part == "training"]
    numbers = {entry.fold for entry in trained.values() if entry.fold is not None}
    if numbers and without:
        raise DataError(
            f"{len(without)} of {len(trained)} cases have no fold, others have one: {enumerate_cases(without)}",
            file=file,
            fix="Give each entry a fold, or none of them.",
            code="bad_splits",
        )
    own = max(numbers, default=-1) + 1
    held = {
        id: own if entry.fold is None and entry.part == "validation" else entry.fold for id, entry in trained.items()
    }
    return held if len(set(held.values())) > 1 else None


def _check_files(files: Mapping[str, Sequence[Path]], file: Path) -> None:
    missing = {id: path for id, paths in files.items() for path in paths if not path.is_file()}
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} cases lack a file that the list names: {enumerate_cases(list(missing))}",
            file=next(iter(missing.values())),
            fix=f"Paths count from {file.parent}. Add the files, or leave these cases out with --skip.",
            code="missing_file",
        )
