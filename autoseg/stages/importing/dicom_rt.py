"""DICOM: a folder of patients, studies and series in any order, with labels as RTSTRUCT or DICOM SEG.

A case is a series of images that somebody drew on; its id is made of pseudonyms of the patient and the series, so that
no patient's name or number stands in a path, a log or a report. Other series of the same study join as channels where
they lie in the same frame of reference.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.images.dicom import finding, seg
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
from autoseg.records.labels import Labels
from autoseg.stages.importing.dicom_matching import CHANNELS, LabelFile, Study, find_studies, judge, read_label_files
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases
from autoseg.stages.importing.roi_names import Drawn, name_structures, partial_note, read_roi_table
from autoseg.stages.importing.structures import make_labels


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
    labels, more = read_label_files(found)
    notes += more
    studies, more = find_studies(found.series, labels, source)
    notes += more
    skipped = frozenset(options.skip) & studies.keys()
    kept, more = judge({id: study for id, study in sorted(studies.items()) if id not in skipped})
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
