"""The layout of HaN-Seg: a folder a patient, CT and MR apart, one binary mask an organ.

`set_1/case_01/case_01_IMG_CT.nrrd`, `case_01_IMG_MR_T1.nrrd`, `case_01_OAR_Brainstem.seg.nrrd`. An organ without a
file was *not annotated* in that case; it may well be there. Source: Podobnik et al. 2023, doi:10.1002/mp.16197.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.dataset import Case, Channel, Correction, FileSource, Mask, MaskSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels
from autoseg.stages.importing.channels import guess_kind
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases
from autoseg.stages.importing.nrrd import mask_extent_mm3
from autoseg.stages.importing.structures import make_labels

IMAGE = re.compile(r"(case_\w+?)_IMG_(\w+)\.nrrd", re.IGNORECASE)
ORGAN = re.compile(r"(case_\w+?)_OAR_(.+?)(?:\.seg)?\.nrrd", re.IGNORECASE)


@dataclass(frozen=True)
class Patient:
    """The files of one case folder: channel name -> image, organ name -> mask."""

    images: dict[str, Path]
    organs: dict[str, Path]


def recognise(source: Path) -> bool:
    """Return whether there are case folders with images named as HaN-Seg names them, here or in `set_1`."""
    return any(IMAGE.fullmatch(path.name) for folder in _case_folders(source) for path in folder.iterdir())


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: Cases lack the CT (all are listed), or none has a mask.
    """
    patients = {folder.name: _patient(folder) for folder in _case_folders(source)}
    skipped = frozenset(options.skip) & patients.keys()
    kept = {id: patient for id, patient in sorted(patients.items()) if id not in skipped}
    check_ids(kept, file=source)
    channels = _channels(kept, source)
    labels = _labels(kept, source)
    order = _painting_order(kept)
    cases = tuple(_case(id, patient, labels, order) for id, patient in kept.items())
    how = "Every case is another patient, as HaN-Seg was published."
    return Draft(
        channels=channels,
        labels=labels,
        cases=cases,
        corrections=_corrections(channels, options),
        notes=_notes(channels, kept, labels),
        skipped=skipped,
        grouping=Grouping({id: id for id in kept}, how, 1.0),
    )


def _case_folders(source: Path) -> list[Path]:
    """Return the folders `case_*` of `source`, else of its `set_*` folders."""
    for places in ([source], sorted(source.glob("set_*")), sorted(source.glob("*/set_*"))):
        folders = [path for place in places for path in sorted(place.glob("case_*")) if path.is_dir()]
        if folders:
            return folders
    return []


def _patient(folder: Path) -> Patient:
    images: dict[str, Path] = {}
    organs: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        for pattern, table in ((IMAGE, images), (ORGAN, organs)):
            found = pattern.fullmatch(path.name)
            if not found:
                continue
            if found[1].lower() != folder.name.lower():
                raise DataError(
                    f"belongs to {found[1]}",
                    case=folder.name,
                    file=path,
                    fix="Move it to its own folder.",
                    code="misplaced_file",
                )
            table[found[2].upper() if table is images else found[2]] = path
    return Patient(images, organs)


def _channels(patients: Mapping[str, Patient], source: Path) -> tuple[Channel, ...]:
    """CT first, because its grid is the one that the organs were drawn on."""
    lacking = [id for id, patient in patients.items() if "CT" not in patient.images]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(patients)} cases lack the CT: {enumerate_cases(lacking)}",
            file=source,
            fix="Add case_NN_IMG_CT.nrrd, or leave these cases out with --skip.",
            code="missing_channel",
        )
    others = sorted({name for patient in patients.values() for name in patient.images} - {"CT"})
    return tuple(
        Channel(
            name=name,
            kind=guess_kind(name),
            optional=any(name not in patient.images for patient in patients.values()),
        )
        for name in ("CT", *others)
    )


def _labels(patients: Mapping[str, Patient], source: Path) -> Labels:
    names = {name for patient in patients.values() for name in patient.organs}
    if not names:
        raise DataError(
            "no case has a mask", file=source, fix="Masks are called case_NN_OAR_<organ>.seg.nrrd.", code="no_labels"
        )
    ordered = sorted(names, key=lambda name: (name.lower(), name))
    return make_labels(dict(enumerate(ordered, start=1)))


def _painting_order(patients: Mapping[str, Patient]) -> tuple[str, ...]:
    """Return the organs, the typically largest first: where two overlap, the smaller one is painted over.

    What a mask encloses is told by its header (the segment's extent), so no voxel is read. The median over the
    cases makes the order the same in all of them.
    """
    sizes: dict[str, list[float]] = {}
    for patient in patients.values():
        for organ, path in patient.organs.items():
            sizes.setdefault(organ, []).append(mask_extent_mm3(path))
    return tuple(sorted(sizes, key=lambda organ: (-statistics.median(sizes[organ]), organ.lower(), organ)))


def _case(id: str, patient: Patient, labels: Labels, order: Sequence[str]) -> Case:
    values = {item.name: item.value for item in labels.structures}
    masks = tuple(
        Mask(path=str(patient.organs[organ]), value=values[organ]) for organ in order if organ in patient.organs
    )
    complete = len(masks) == len(values)
    images: dict[str, DataSource] = {name: FileSource(path=str(path)) for name, path in patient.images.items()}
    return Case(
        id=id,
        group=id,
        images=images,
        labels=MaskSource(masks=masks) if masks else None,
        annotated=None if complete else tuple(name for name in values if name in patient.organs),
    )


def _corrections(channels: Sequence[Channel], options: ImportOptions) -> tuple[Correction, ...]:
    return tuple(
        Correction(
            kind="resample_to_first",
            channel=channel.name,
            because=f"HaN-Seg's {channel.name} lies on a grid of its own; the organs were drawn on the CT.",
        )
        for channel in channels[1:]
        if channel.name not in options.register
    )


def _notes(channels: Sequence[Channel], patients: Mapping[str, Patient], labels: Labels) -> tuple[str, ...]:
    notes = ["Where two organs overlap, the one with the smaller typical extent (from the mask headers) wins."]
    count = len(labels.structures)
    partial = [id for id, patient in patients.items() if len(patient.organs) < count]
    if partial:
        notes.append(
            f"{len(partial)} of {len(patients)} cases have no file for some of the {count} organs "
            f"({enumerate_cases(partial)}): not annotated there, which is not the same as absent."
        )
    notes += [f"Channel {channel.name} is missing in some cases." for channel in channels if channel.optional]
    return tuple(notes)
