"""Volumes with their labels in no layout of their own: beside one another, or a folder a case.

`x.nii.gz` beside `x_seg.nii.gz` (any ending that says segmentation), `images/x.nii.gz` with `labels/x.nii.gz`, or a
folder a case with a file a channel and one of labels (`patient07/FLAIR.nii.gz`, `patient07/lesions.nii.gz`; BraTS:
`BraTS-MET-00001-000/BraTS-MET-00001-000-t1c.nii.gz`, `...-seg.nii.gz`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.dataset import Case, Channel, FileSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.stages.importing.channels import guess_kind
from autoseg.stages.importing.draft import Draft, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases, image_files
from autoseg.stages.importing.unnamed import MOST_VOLUMES, name_structures

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "volumes")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg")
SAYS_LABELS = re.compile(
    r"(^|[-_.])([a-z]*seg(mentations?|s)?|masks?|labels?|lesions?|(ground)?truth|gt|annotations?|rois?|manual)$", re.I
)
MARK = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class Found:
    """One case: channel name -> image, and its label file; either may be missing."""

    images: dict[str, Path]
    label: Path | None


def recognise(source: Path) -> bool:
    """Return whether some case has an image and labels."""
    return source.is_dir() and any(case.images and case.label for case in _find(source).values())


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: Cases lack their labels or a channel that others have (all are listed).
    """
    found = _find(source)
    skipped = frozenset(options.skip) & found.keys()
    kept = {id: case for id, case in sorted(found.items()) if id not in skipped}
    check_ids(kept, file=source)
    _check_complete(kept, source)
    channels = _channels(kept)
    truths = {id: case.label for id, case in kept.items() if case.label is not None}
    labels, notes = name_structures(list(truths.values()), source=source, most=MOST_VOLUMES)
    cases = tuple(
        Case(id=id, group=id, images=_sources(case, channels), labels=FileSource(path=str(truths[id])))
        for id, case in kept.items()
    )
    return Draft(channels=channels, labels=labels, cases=cases, notes=(*notes, *_notes(kept)), skipped=skipped)


def is_label_name(stem: str) -> bool:
    """Return whether a file's name without suffix ends in a word that says labels (`x_seg`)."""
    return SAYS_LABELS.search(stem) is not None


def _find(source: Path) -> dict[str, Found]:
    """Return case id -> files; pictures are another layout's."""
    folders = {path.name.lower(): path for path in sorted(source.iterdir()) if _is_folder(path)}
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in LABEL_FOLDERS if name in folders), None)
    if images and labels:
        return _paired(_volumes(images), _volumes(labels))
    beside = _beside(_volumes(source))
    if beside:
        return beside
    return {path.name: found for path in folders.values() if (found := _case(path)).images or found.label}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _volumes(folder: Path) -> dict[str, Path]:
    from autoseg.images.files import ITK_SUFFIXES, NIFTI_SUFFIXES

    endings = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)
    return {stem: path for stem, path in image_files(folder).items() if path.name.lower().endswith(endings)}


def _paired(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, Found]:
    """Return cases by equal names; a label may have a marking word behind the image's name."""
    found: dict[str, Found] = {}
    taken = set()
    for stem, path in images.items():
        label = stem if stem in labels else next((name for name in labels if is_label_of(name, stem)), None)
        taken.add(label)
        found[stem] = Found({"image": path}, labels[label] if label else None)
    return found | {name: Found({}, path) for name, path in labels.items() if name not in taken and name not in found}


def _beside(files: Mapping[str, Path]) -> dict[str, Found]:
    """Return cases of one folder: a label is called as its image, with a word behind it that says labels."""
    found: dict[str, Found] = {}
    labels = {name for name in files if any(is_label_of(name, other) for other in files if other != name)}
    for stem, path in files.items():
        if stem not in labels:
            mine = sorted(name for name in labels if is_label_of(name, stem))
            _check_one([files[name] for name in mine], stem)
            found[stem] = Found({"image": path}, files[mine[0]] if mine else None)
    return found if labels else {}


def is_label_of(label: str, image: str) -> bool:
    """Return whether the name `label` is `image` with a word behind it that says labels."""
    rest = label[len(image) :]
    return label.startswith(image) and rest[:1] in ("-", "_", ".") and is_label_name(rest)


def _case(folder: Path) -> Found:
    """Return the channels and the labels of a folder; what all names share with the folder's is left out of them."""
    files = {_short(stem, folder.name): path for stem, path in _volumes(folder).items()}
    labels = {name: path for name, path in files.items() if is_label_name(name)}
    _check_one(list(labels.values()), folder.name)
    images = {name: path for name, path in files.items() if name not in labels}
    return Found(images, next(iter(labels.values()), None))


def _short(stem: str, folder: str) -> str:
    rest = stem[len(folder) :] if stem.lower().startswith(folder.lower()) else ""
    return MARK.sub("_", rest).strip("_") or stem


def _check_one(labels: Sequence[Path], id: str) -> None:
    if len(labels) > 1:
        raise DataError(
            f"has {len(labels)} files that may be its labels: {', '.join(path.name for path in labels)}",
            case=id,
            file=labels[1],
            fix="Keep one label map a case, or write a manifest that names the right one (`case,image:T1,label`).",
            code="several_labels",
        )


def _check_complete(cases: Mapping[str, Found], source: Path) -> None:
    for lacking, what, code in (
        ([id for id, case in cases.items() if case.label is None], "have no labels", "missing_labels"),
        ([id for id, case in cases.items() if not case.images], "have labels and no image", "missing_image"),
    ):
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(cases)} cases {what}: {enumerate_cases(lacking)}",
                file=source,
                fix="Add the files, or leave these cases out with --skip.",
                code=code,
            )
    counts = Counter(name for case in cases.values() for name in case.images)
    rare = sorted(name for name, count in counts.items() if 2 * count < len(cases))
    if rare:
        odd = [id for id, case in cases.items() if set(case.images) & set(rare)]
        raise DataError(
            f"{len(odd)} of {len(cases)} cases have an image that most have not: {', '.join(rare)} "
            f"({enumerate_cases(odd)})",
            file=source,
            fix="Name the channels alike in every case, remove what is no channel, or use --skip.",
            code="extra_channel",
        )


def _channels(cases: Mapping[str, Found]) -> tuple[Channel, ...]:
    """Return the channels by name; one that some cases lack is optional."""
    names = sorted({name for case in cases.values() for name in case.images}, key=lambda name: (name.lower(), name))
    if names == ["image"]:
        kinds = {guess_kind(path.name.partition(".")[0]) for case in cases.values() for path in case.images.values()}
        return (Channel(name="image", kind=kinds.pop() if len(kinds) == 1 else "other"),)
    return tuple(
        Channel(name=name, kind=guess_kind(name), optional=any(name not in case.images for case in cases.values()))
        for name in sorted(names, key=lambda name: sum(name not in case.images for case in cases.values()))
    )


def _sources(case: Found, channels: Sequence[Channel]) -> dict[str, DataSource]:
    return {c.name: FileSource(path=str(case.images[c.name])) for c in channels if c.name in case.images}


def _notes(cases: Mapping[str, Found]) -> tuple[str, ...]:
    first = next(iter(cases.values()))
    assert first.label is not None
    shown = ", ".join(path.name for path in first.images.values())
    return (f"Taken by their names: {shown} for images, {first.label.name} for labels.",)
