"""DICOM: a folder of patients, studies and series in any order, with labels as RTSTRUCT or DICOM SEG.

A case is a series of images that somebody drew on; its id is made of pseudonyms of the patient and the series, so that
no patient's name or number stands in a path, a log or a report. Other series of the same study join as channels where
they lie in the same frame of reference.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autoseg.images.dicom import finding, gate, rtstruct, seg
from autoseg.images.dicom.finding import Series
from autoseg.images.dicom.rtstruct import StructureSet
from autoseg.images.dicom.seg import SegFile
from autoseg.records.dataset import (
    Case,
    Channel,
    Correction,
    DicomPart,
    DicomSegSource,
    RtstructSource,
    Source,
)
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels
from autoseg.stages.importing.channels import Kind
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases
from autoseg.stages.importing.roi_names import Drawn, name_structures, partial_note, read_roi_table
from autoseg.stages.importing.structures import make_labels

CHANNELS: dict[str, tuple[str, Kind]] = {"CT": ("CT", "ct"), "MR": ("MR", "mr"), "PT": ("PET", "pet")}

LabelFile = StructureSet | SegFile


@dataclass(frozen=True)
class Study:
    """One case in the making: the series that was drawn on, its label files (RTSTRUCT or SEG), and its neighbours."""

    series: Series
    files: tuple[LabelFile, ...]
    others: dict[str, Series]


def recognise(source: Path) -> bool:
    """Return whether there is a DICOM file in the folder, whatever its name; other layouts are asked first."""
    return finding.holds_dicom(source)


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds.

    Raises:
        DataError: There are no images, or no labels that belong to any of them.
    """
    found = finding.find(source)
    notes = list(found.notes)
    labels, more = _label_files(found)
    notes += more
    studies, more = _studies(found.series, labels, source)
    notes += more
    skipped = frozenset(options.skip) & studies.keys()
    kept, more = _judged({id: study for id, study in sorted(studies.items()) if id not in skipped})
    notes += more
    check_ids(kept, file=source)
    drawn = {id: _drawn(study) for id, study in kept.items()}
    table = read_roi_table(options.roi_table) if options.roi_table else {}
    named, more = name_structures(drawn, table)
    notes += more
    return _draft(source, kept, named, options, skipped=skipped, notes=notes)


def _draft(
    source: Path,
    studies: Mapping[str, Study],
    named: Mapping[str, Mapping[str, Drawn]],
    options: ImportOptions,
    *,
    skipped: frozenset[str],
    notes: list[str],
) -> Draft:
    names = sorted({name for found in named.values() for name in found}, key=lambda name: (name.lower(), name))
    if not names and studies:
        raise DataError(
            "no ROI has a contour and a name that is known or common",
            file=source,
            fix="Name the structures in a table with the columns roi and name: --roi-table FILE.",
            code="no_labels",
        )
    labels = make_labels(dict(enumerate(names, start=1)))
    channels, corrections, more = _channels(studies, options)
    order = _painting_order(named, studies)
    cases = [_case(id, study, named[id], labels, order) for id, study in studies.items() if named[id]]
    empty = [id for id in studies if not named[id]]
    if empty:
        notes.append(f"{len(empty)} cases have no structure of these and were left out: {enumerate_cases(empty)}.")
    kept = {channel.name for channel in channels}
    cases = [
        case.model_copy(update={"images": {name: image for name, image in case.images.items() if name in kept}})
        for case in cases
    ]
    notes += more + partial_note({case.id: named[case.id] for case in cases}, names)
    if len(names) > 1:
        notes.append("Where two structures overlap, the typically smaller one wins.")
    how = "Cases with one PatientID are one patient; where it is empty, with one study."
    return Draft(
        channels=channels,
        labels=labels,
        cases=tuple(cases),
        corrections=corrections,
        notes=tuple(notes),
        skipped=skipped,
        grouping=Grouping({id: study.series.patient_name() for id, study in studies.items()}, how, 1.0),
        presence={case.id: frozenset(named[case.id]) for case in cases},
    )


def _label_files(found: finding.Found) -> tuple[list[LabelFile], list[str]]:
    """Read every label file; contours that were passed over are said."""
    files: list[LabelFile] = []
    notes: list[str] = []
    for path in found.structure_sets:
        try:
            files.append(rtstruct.read(path))
        except DataError as error:
            notes.append(f"Warning: {error}")
    for path in found.segmentations:
        try:
            files.append(seg.read(path))
        except DataError as error:
            notes.append(f"Warning: {error}")
    for file in files:
        if isinstance(file, StructureSet):
            notes += [f"Warning: {file.path.name}: {note}." for roi in file.rois for note in roi.notes]
        elif file.kind == "FRACTIONAL":
            notes.append(f"{file.path.name} holds fractions; a voxel counts from half of the largest value up.")
    return files, notes


def _studies(series: Sequence[Series], files: Sequence[LabelFile], source: Path) -> tuple[dict[str, Study], list[str]]:
    """Return case id -> study: every series with a label file that belongs to it."""
    if not series or not files:
        raise DataError(
            f"holds {len(series)} series of DICOM images and {len(files)} RTSTRUCT or SEG files",
            file=source,
            fix="Training needs both: images, and the labels drawn on them. To predict, use `autoseg predict -i`.",
            code="no_labels" if series else "no_series",
        )
    belonging: dict[int, list[LabelFile]] = defaultdict(list)
    notes = []
    for file in files:
        place = _drawn_on(file, series)
        if place is None:
            notes.append(f"Warning: {file.path.name} was passed over: {_why_homeless(file, series)}.")
        else:
            belonging[place].append(file)
    if not belonging:
        raise DataError("no RTSTRUCT or SEG belongs to any series", file=source, fix=" ".join(notes), code="no_labels")
    studies: dict[str, Study] = {}
    for place, mine in belonging.items():
        chosen, more = _newest(mine)
        notes += more
        studies[series[place].name()] = Study(series[place], chosen, _neighbours(series[place], series))
    used = {item.name() for study in studies.values() for item in (study.series, *study.others.values())}
    unused = [item.name() for item in series if item.name() not in used]
    if unused:
        notes.append(f"{len(unused)} series have no labels and were left out: {enumerate_cases(unused)}.")
    return studies, notes


def _judged(studies: Mapping[str, Study]) -> tuple[dict[str, Study], list[str]]:
    """Leave out series that are no volume, and ROIs that lie beside theirs; each is said.

    Raises:
        DataError: Of the first series, where none is a volume.
    """
    kept: dict[str, Study] = {}
    notes: list[str] = []
    refused: list[DataError] = []
    for id, study in studies.items():
        try:
            stack = gate.build(study.series.slices)
        except DataError as error:
            error.in_case(id)
            refused.append(error)
            notes.append(f"Warning: case {id} was left out: {error}")
            continue
        notes += [f"Case {id}: {note}." for note in stack.notes]
        files, more = _on_grid(study.files, stack.grid)
        notes += [f"Warning: case {id}: {note}" for note in more]
        kept[id] = replace(study, files=files)
    if refused and not kept:
        raise refused[0]
    return kept, notes


def _on_grid(files: Sequence[LabelFile], grid: Grid) -> tuple[tuple[LabelFile, ...], list[str]]:
    kept: list[LabelFile] = []
    notes: list[str] = []
    for file in files:
        if not isinstance(file, StructureSet):
            kept.append(file)
            continue
        rois = []
        for roi in file.rois:
            try:
                notes += [f"{note}." for note in rtstruct.misplaced(roi, grid, file=file.path)]
                rois.append(roi)
            except DataError as error:
                notes.append(f"an ROI was left out: {error}")
        kept.append(replace(file, rois=tuple(rois)))
    return tuple(kept), notes


def _drawn_on(file: LabelFile, series: Sequence[Series]) -> int | None:
    """Return the place of the series that a label file was drawn on: by series, by image, else by coordinates."""
    for place, item in enumerate(series):
        if item.uid and item.uid in file.series:
            return place
    for place, item in enumerate(series):
        if {part.instance for part in item.slices if part.instance} & file.instances:
            return place
    frame = file.frame_of_reference
    names_another = any(file.series)  # then only a series that lost its UID can be meant
    same = [
        place
        for place, item in enumerate(series)
        if frame and item.first.frame_of_reference == frame and not (names_another and item.uid)
    ]
    for modality in CHANNELS:  # of a CT and a PET in one frame, the CT was drawn on
        candidates = [place for place in same if series[place].first.modality == modality]
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return same[0] if len(same) == 1 else None


def _why_homeless(file: LabelFile, series: Sequence[Series]) -> str:
    frames = {item.first.frame_of_reference for item in series}
    if file.frame_of_reference and file.frame_of_reference not in frames:
        return f"no series lies in its frame of reference {file.frame_of_reference}"
    if any(file.series):
        return "the series that it was drawn on is not here"
    return "it does not say on which of several series it was drawn"


def _newest(files: Sequence[LabelFile]) -> tuple[tuple[LabelFile, ...], list[str]]:
    """Keep the structure sets of a series, or its segmentations where it has none; the newest first."""
    sets = [file for file in files if isinstance(file, StructureSet)]
    kept = sorted(sets or files, key=lambda file: (file.made, str(file.path)), reverse=True)
    notes = []
    if len(kept) < len(files):
        notes.append(f"{len(files) - len(kept)} SEG files were passed over: their series has an RTSTRUCT.")
    if len(kept) > 1 and sets:
        notes.append(f"{len(kept)} structure sets lie on one series; where they repeat an ROI, the newest counts.")
    return tuple(kept), notes


def _neighbours(series: Series, everyone: Sequence[Series]) -> dict[str, Series]:
    """Return channel name -> the one series of another modality in the same study and frame of reference."""
    found: dict[str, list[Series]] = defaultdict(list)
    for item in everyone:
        same = item.first.study == series.first.study and item.patient_key == series.patient_key
        frame = item.first.frame_of_reference
        if same and frame and frame == series.first.frame_of_reference and item.first.modality in CHANNELS:
            found[item.first.modality].append(item)
    found.pop(series.first.modality, None)
    return {CHANNELS[name][0]: items[0] for name, items in found.items() if len(items) == 1}


def _drawn(study: Study) -> list[Drawn]:
    """Return what was drawn; of names that come again, the first counts (files are in order of age)."""
    found: dict[str, Drawn] = {}
    for file in study.files:
        if isinstance(file, StructureSet):
            items = [Drawn(file.path, roi.number, roi.name, roi.kind) for roi in file.rois if roi.contours]
        else:
            items = [Drawn(file.path, item.number, item.name, "") for item in file.segments]
        for item in items:
            found.setdefault(item.name if isinstance(file, StructureSet) else f"{item.name}|{file.path}", item)
    return list(found.values())


def _channels(
    studies: Mapping[str, Study], options: ImportOptions
) -> tuple[tuple[Channel, ...], tuple[Correction, ...], list[str]]:
    """Return the modality that was drawn on, and others that at least half of the cases have."""
    first = {study.series.first.modality for study in studies.values()}
    if len(first) > 1:
        counts = {name: sum(study.series.first.modality == name for study in studies.values()) for name in first}
        words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise DataError(
            f"labels are drawn on several modalities: {words}",
            fix="Import each modality as a data set of its own.",
            code="mixed_images",
        )
    name, kind = CHANNELS.get(next(iter(first), ""), (next(iter(first), "image") or "image", "other"))
    channels = [Channel(name=name, kind=kind)]
    corrections, notes = [], []
    for other, other_kind in CHANNELS.values():
        count = sum(other in study.others for study in studies.values())
        if not count:
            continue
        if 2 * count < len(studies):
            notes.append(f"{count} of {len(studies)} cases have {other} as well; too few for a channel.")
            continue
        channels.append(Channel(name=other, kind=other_kind, optional=count < len(studies)))
        if other not in options.register:
            because = f"The {other} lies on a grid of its own; the structures were drawn on the {name}."
            corrections.append(Correction(kind="resample_to_first", channel=other, because=because))
    return tuple(channels), tuple(corrections), notes


def _painting_order(named: Mapping[str, Mapping[str, Drawn]], studies: Mapping[str, Study]) -> tuple[str, ...]:
    """Return structures, the typically largest first, by the extent of contours or the voxels of segments."""
    sizes: dict[str, list[float]] = defaultdict(list)
    for id, found in named.items():
        measured = {file.path: _sizes(file) for file in studies[id].files}
        for name, item in found.items():
            sizes[name].append(measured[item.path].get(item.number, 0.0))
    return tuple(sorted(sizes, key=lambda name: (-statistics.median(sizes[name]), name.lower(), name)))


def _sizes(file: LabelFile) -> dict[int, float]:
    """Return number -> how large: the bounding box of contours in mm3, or voxels."""
    if isinstance(file, SegFile):
        return {number: float(count) for number, count in seg.sizes(file.path).items()}
    return {
        roi.number: float(np.prod(np.ptp(np.concatenate(roi.contours), axis=0) + 1.0))
        for roi in file.rois
        if roi.contours
    }


def _case(id: str, study: Study, found: Mapping[str, Drawn], labels: Labels, order: Sequence[str]) -> Case:
    values = {item.name: item.value for item in labels.structures}
    parts = tuple(
        DicomPart(path=str(found[name].path.absolute()), number=found[name].number, value=values[name])
        for name in order
        if name in found
    )
    frame = study.series.first.frame_of_reference
    drawn: Source = (
        RtstructSource(rois=parts, frame_of_reference=frame)
        if isinstance(study.files[0], StructureSet)
        else DicomSegSource(segments=parts, frame_of_reference=frame)
    )
    modality = study.series.first.modality
    name = CHANNELS.get(modality, (modality or "image", ""))[0]
    images: dict[str, Source] = {name: study.series.source}
    images |= {other: item.source for other, item in study.others.items()}
    complete = len(found) == len(values)
    return Case(
        id=id,
        group=id,
        images=images,
        labels=drawn,
        annotated=None if complete else tuple(item for item in values if item in found),
    )
