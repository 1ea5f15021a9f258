"""The layout of BIDS: `sub-01[/ses-02]/<modality>/sub-01_..._<suffix>.nii.gz`, labels below `derivatives`.

Source: the Brain Imaging Data Structure, bids-specification.readthedocs.io, "Imaging derivatives" for labels; names
such as `sub-01_ct_seg-manual.nii.gz` are an older custom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.stages.importing.bids_labels import describe, label_kind
from autoseg.stages.importing.bids_names import CASE_ENTITIES, Name, attributes_of, parse
from autoseg.stages.importing.channels import guess_kind
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases

SERIES = frozenset({"func", "dwi", "fmap", "perf", "eeg", "meg", "ieeg", "beh", "nirs", "motion"})
Images = dict[str, dict[str, Name]]  # case id -> channel name -> file


def recognise(source: Path) -> bool:
    """Return whether there are `dataset_description.json` and folders of subjects."""
    return (source / "dataset_description.json").is_file() and any(path.is_dir() for path in source.glob("sub-*"))


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds: one case a subject, session and run that has labels.

    Raises:
        DataError: There is no label, two files are the same channel, or labels cannot be understood.
    """
    images = _images(source)
    labels, notes = _label_files(source, images)
    skipped = frozenset(options.skip) & images.keys()
    drawn_on, dropped = _drawn_on(labels, images)
    usable = {
        id: [name for name in labels[id] if _target(name, images[id]) in (None, drawn_on)]
        for id in sorted(labels.keys() - skipped)
        if drawn_on in images[id]
    }
    kept = {id: names for id, names in usable.items() if names}
    if not kept:
        raise DataError(
            "no subject has labels",
            file=source / "derivatives",
            fix="Labels are called sub-01_..._dseg.nii.gz, ..._label-liver_mask.nii.gz or ..._seg.nii.gz.",
            code="missing_labels",
        )
    check_ids(kept, file=source)
    channels = _channels({id: images[id] for id in kept}, drawn_on)
    described = describe(kept, source)
    facts = attributes_of(source)
    cases = tuple(
        Case(
            id=id,
            group=images[id][drawn_on].subject,
            images=_sources(images[id], channels),
            labels=described.sources[id],
            annotated=described.annotated[id],
            attributes=facts.get(images[id][drawn_on].subject, {}),
        )
        for id in kept
    )
    without = sorted(images.keys() - kept.keys() - skipped)
    return Draft(
        channels=channels,
        labels=described.labels,
        cases=cases,
        notes=(*notes, *dropped, *described.notes, *_left_out(without)),
        skipped=skipped,
        grouping=Grouping({case.id: case.group for case in cases}, "Group = the subject of BIDS.", 1.0),
    )


def _images(source: Path) -> Images:
    """Return the images of every case; a name says subject, session, run, and what kind of image it is."""
    images: Images = {}
    for path in sorted([*source.glob("sub-*/*/sub-*"), *source.glob("sub-*/ses-*/*/sub-*")]):
        name = parse(path)
        if name is None or label_kind(name) is not None:
            continue
        other = images.setdefault(name.case, {}).setdefault(name.channel, name)
        if other is not name:
            raise DataError(
                f"is channel {name.channel} of {name.case}, but so is {other.path.name}",
                case=name.case,
                file=path,
                fix="Keep one of the two.",
                code="duplicate_case",
            )
    if not images:
        raise DataError("holds no image", file=source, fix="Images are called sub-01_T1w.nii.gz.", code="no_cases")
    return images


def _label_files(source: Path, images: Images) -> tuple[dict[str, list[Name]], tuple[str, ...]]:
    """Return case id -> label files on the grid of the subject's own images, and what was passed over."""
    found: dict[str, list[Name]] = {}
    elsewhere: list[str] = []
    alone: list[str] = []
    suffixes = {name.suffix for channels in images.values() for name in channels.values()}
    for path in sorted((source / "derivatives").rglob("sub-*")):
        name = parse(path)
        if name is None or label_kind(name) is None:
            continue
        space = name.entities.get("space", "orig")
        if space not in suffixes | {"orig", "native", "individual", "scanner"}:
            elsewhere.append(path.name)
            continue
        case = _case_of(name, images)
        if case is None:
            alone.append(path.name)
        else:
            found.setdefault(case, []).append(name)
    notes = []
    if elsewhere:
        notes.append(
            f"{len(elsewhere)} label files lie in another space than the images: {enumerate_cases(elsewhere, most=3)}."
        )
    if alone:
        notes.append(f"{len(alone)} label files belong to no image: {enumerate_cases(alone, most=3)}.")
    return found, tuple(notes)


def _case_of(name: Name, images: Images) -> str | None:
    """Return the case of a label file: its own, or the subject's only one where session or run are left away."""
    if name.case in images:
        return name.case
    own = [id for id, channels in images.items() if next(iter(channels.values())).subject == name.subject]
    return own[0] if len(own) == 1 else None


def _drawn_on(labels: Mapping[str, Sequence[Name]], images: Images) -> tuple[str, tuple[str, ...]]:
    """Return the channel that most labels name, and a note about labels that name another."""
    counts: Counter[str] = Counter()
    for id, names in labels.items():
        targets = {_target(name, images[id]) for name in names}
        counts.update(target for target in targets if target is not None)
    if not counts:  # no label says what it was drawn on: the channel that most cases have
        counts.update(channel for id in labels for channel, name in images[id].items() if name.folder not in SERIES)
        counts = counts or Counter(channel for id in labels for channel in images[id])
        return (min(counts, key=lambda channel: (-counts[channel], channel)) if counts else ""), ()
    chosen = min(counts, key=lambda channel: (-counts[channel], channel))
    others = ", ".join(f"{channel} ({counts[channel]} cases)" for channel in sorted(counts) if channel != chosen)
    return chosen, (f"Labels drawn on {chosen} were imported, those on {others} were not.",) if others else ()


def _target(name: Name, channels: Mapping[str, Name]) -> str | None:
    """Return the channel that a label file names: `sub-01_acq-fast_T2w_seg` or `space-T2w`; None when it names none."""
    space = name.entities.get("space")
    fitting = []
    for channel, image in channels.items():
        parts = {(key, value) for key, value in image.entities.items() if key not in CASE_ENTITIES}
        named = image.suffix in name.words or space in (channel, image.suffix)
        if named and (parts <= name.entities.items() or space == channel):
            fitting.append((len(parts), channel))
    return max(fitting)[1] if fitting else None


def _channels(images: Images, first: str) -> tuple[Channel, ...]:
    """Return the channel that the labels were drawn on, then the others that are no time series."""
    folders = {channel: name.folder for channels in images.values() for channel, name in channels.items()}
    others = sorted(channel for channel, folder in folders.items() if channel != first and folder not in SERIES)
    channels = []
    for name in (first, *others):
        kind = guess_kind(name)
        channels.append(
            Channel(
                name=name,
                kind="mr" if kind == "other" and folders[name] in {"anat", "dwi"} else kind,
                optional=any(name not in there for there in images.values()),
            )
        )
    return tuple(channels)


def _sources(images: Mapping[str, Name], channels: Sequence[Channel]) -> dict[str, DataSource]:
    return {c.name: FileSource(path=str(images[c.name].path)) for c in channels if c.name in images}


def _left_out(ids: Sequence[str]) -> tuple[str, ...]:
    return (f"{len(ids)} scans have no labels and were left out: {enumerate_cases(ids)}.",) if ids else ()
