"""Which DICOM labels were drawn on which series: by series, by image, else by coordinates; and what lies beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.images.dicom import finding, gate, rtstruct, seg
from autoseg.images.dicom.finding import Series
from autoseg.images.dicom.rtstruct import StructureSet
from autoseg.images.dicom.seg import SegFile
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.stages.importing.channels import Kind
from autoseg.stages.importing.listing import enumerate_cases

CHANNELS: dict[str, tuple[str, Kind]] = {"CT": ("CT", "ct"), "MR": ("MR", "mr"), "PT": ("PET", "pet")}

LabelFile = StructureSet | SegFile


@dataclass(frozen=True)
class Study:
    """One case in the making: the series that was drawn on, its label files (RTSTRUCT or SEG), and its neighbours."""

    series: Series
    files: tuple[LabelFile, ...]
    others: dict[str, Series]


def read_label_files(found: finding.Found) -> tuple[list[LabelFile], list[str]]:
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


def find_studies(
    series: Sequence[Series], files: Sequence[LabelFile], source: Path
) -> tuple[dict[str, Study], list[str]]:
    """Return case id -> study: every series with a label file that belongs to it; and notes.

    Raises:
        DataError: There are no images or no labels, or none belongs to any other.
    """
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


def judge(studies: Mapping[str, Study]) -> tuple[dict[str, Study], list[str]]:
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
