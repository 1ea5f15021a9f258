"""The layout of nnU-Net: `imagesTr/case_0000.nii.gz` (one file a channel), `labelsTr/case.nii.gz`, `dataset.json`.

Both versions are read: version 1 says `modality` and value -> name, version 2 `channel_names` and name -> value.
Source: the format description in the documentation of nnU-Net 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.stages.importing.channels import read_channels, with_optional
from autoseg.stages.importing.descriptions import read_description
from autoseg.stages.importing.draft import Draft, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases, image_files, listed_file
from autoseg.stages.importing.structures import read_structures

NUMBERED = re.compile(r"(.+)_(\d{4})")
Files = dict[int, Path]


def recognise(source: Path) -> bool:
    """Return whether the folder has nnU-Net's shape; whether its content is right is found when it is read."""
    described = (source / "dataset.json").is_file()
    return (described and (source / "imagesTr").is_dir()) or (
        (source / "imagesTr").is_dir() and (source / "labelsTr").is_dir()
    )


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: `dataset.json` is wrong, channels or labels of some cases are missing (all are listed), or an id
            is not safe.
    """
    file = source / "dataset.json"
    description = read_description(file)
    channels = read_channels(description.get("channel_names", description.get("modality")), file=file)
    channels = with_optional(channels, options.optional)
    labels, notes = read_structures(description.get("labels"), order=description.get("regions_class_order"), file=file)
    if isinstance(description.get("dataset"), Mapping):
        images, truths = _listed(source, description["dataset"], file)
    else:
        truths = image_files(source / "labelsTr")
        images = group_channels(image_files(source / "imagesTr"), truths, channels=len(channels))
    if not images:
        raise DataError("holds no image", file=source / "imagesTr", fix="Check the folder.", code="no_cases")
    known = images.keys() | truths.keys()
    skipped = frozenset(options.skip) & known
    kept = sorted(images.keys() - skipped)
    rgb = _one_file_of_colours(images, kept, channels)
    _check_complete({id: images[id] for id in kept}, truths, skipped, channels[:1] if rgb else channels, source)
    check_ids(kept, file=source / "imagesTr")
    cases = tuple(
        Case(id=id, group=id, images=_sources(images[id], channels, rgb), labels=FileSource(path=str(truths[id])))
        for id in kept
    )
    notes += _remarks(source, description, len(known))
    return Draft(channels=channels, labels=labels, cases=cases, notes=notes, skipped=skipped)


def group_channels(files: Mapping[str, Path], truths: Mapping[str, Path], *, channels: int) -> dict[str, Files]:
    """Return case id -> channel number -> file.

    `case_0001` is channel 1 of `case`. With one channel the number may be missing, and a name that a label file has
    in full (`scan_2021`) is an id, not a channel: an id never loses characters.
    """
    images: dict[str, Files] = {}
    for stem, path in files.items():
        numbered = NUMBERED.fullmatch(stem)
        whole = channels == 1 and (stem in truths and (not numbered or numbered[1] not in truths))
        if numbered and not whole:
            id, number = numbered[1], int(numbered[2])
        else:
            id, number = stem, 0
        images.setdefault(id, {})[number] = path
        if channels > 1 and not numbered:
            images[id] = {-1: path} | images[id]  # No channel has this number: reported with the missing ones.
    return images


def _listed(source: Path, entries: Mapping[str, Any], file: Path) -> tuple[dict[str, Files], dict[str, Path]]:
    """Read version 2's optional list `{"dataset": {"case": {"images": [...], "label": "..."}}}`."""
    images: dict[str, Files] = {}
    truths: dict[str, Path] = {}
    check_ids(entries, file=file)
    for id, entry in entries.items():
        try:
            images[id] = {n: listed_file(source, path, file=file) for n, path in enumerate(entry["images"])}
            truths[id] = listed_file(source, entry["label"], file=file)
        except (KeyError, TypeError, AttributeError):
            raise DataError(
                "the entry is not understood",
                case=id,
                file=file,
                fix='It must be {"images": ["..."], "label": "..."}.',
                code="bad_entry",
            ) from None
    missing = {id: path for id in images for path in (*images[id].values(), truths[id]) if not path.is_file()}
    if missing:
        raise DataError(
            f"{len(missing)} of {len(images)} cases lack a file that dataset.json lists: "
            f"{enumerate_cases(list(missing))}",
            file=next(iter(missing.values())),
            fix="Add the files, or correct their paths in dataset.json.",
            code="missing_file",
        )
    return images, truths


def _one_file_of_colours(images: Mapping[str, Files], kept: Sequence[str], channels: Sequence[Channel]) -> bool:
    """Return whether the colours of every case lie in one picture, as nnU-Net has it for PNG and TIFF."""
    coloured = len(channels) == 3 and all(channel.kind == "rgb" for channel in channels)
    return coloured and bool(kept) and all(set(images[id]) == {0} for id in kept)


def _sources(files: Files, channels: Sequence[Channel], rgb: bool) -> dict[str, DataSource]:
    if rgb:
        return {c.name: FileSource(path=str(files[0]), volume=number) for number, c in enumerate(channels)}
    return {c.name: FileSource(path=str(files[number])) for number, c in enumerate(channels) if number in files}


def _check_complete(
    images: Mapping[str, Files],
    truths: Mapping[str, Path],
    skipped: frozenset[str],
    described: Sequence[Channel],
    source: Path,
) -> None:
    channels = len(described)
    needed = [number for number, channel in enumerate(described) if not channel.optional]
    missing = [id for id, files in images.items() if -1 in files or not set(needed) <= set(files)]
    if missing:
        names = [f"{id} ({_lacks(images[id], needed)})" for id in missing]
        raise DataError(
            f"{len(missing)} of {len(images)} cases lack a channel: {enumerate_cases(names)}",
            file=source / "imagesTr",
            fix="Add the files, leave these cases out with --skip, or let cases lack the channel with --optional.",
            code="missing_channel",
        )
    extra = [id for id, files in images.items() if max(files) >= channels]
    if extra:
        names = [f"{id} (_{max(images[id]):04d})" for id in extra]
        raise DataError(
            f"{len(extra)} of {len(images)} cases have more channels than the {channels} of dataset.json: "
            f"{enumerate_cases(names)}",
            file=source / "imagesTr",
            fix="Name every channel in dataset.json, or remove the files.",
            code="extra_channel",
        )
    _check_pairs(set(images), set(truths) - skipped, source)


def _check_pairs(images: set[str], truths: set[str], source: Path) -> None:
    for there, absent, folder, what in (
        (images, truths, "labelsTr", "no label file"),
        (truths, images, "imagesTr", "a label file but no image"),
    ):
        alone = there - absent
        if alone:
            raise DataError(
                f"{len(alone)} of {len(there)} cases have {what}: {enumerate_cases(sorted(alone))}",
                file=source / folder,
                fix="Add the files, or leave these cases out with --skip.",
                code="missing_labels" if folder == "labelsTr" else "missing_image",
            )


def _lacks(files: Files, needed: Sequence[int]) -> str:
    if -1 in files:
        return f"{files[-1].name} has no channel number"
    return ", ".join(f"_{number:04d}" for number in needed if number not in files)


def _remarks(source: Path, description: Mapping[str, Any], cases: int) -> tuple[str, ...]:
    notes = []
    said = description.get("numTraining")
    if said is not None and said != cases:
        notes.append(f"dataset.json says numTraining {said}, but there are {cases} cases; the files count.")
    tests = source / "imagesTs"
    if tests.is_dir():
        count = len(image_files(tests))
        notes.append(f"imagesTs holds {count} images that were not imported: they have no part in training.")
    return tuple(notes)
