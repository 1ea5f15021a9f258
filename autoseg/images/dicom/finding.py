"""What a folder of DICOM files holds: series of slices, structure sets, segmentations; the rest is passed over."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.images.dicom import multiframe
from autoseg.images.dicom.facts import SliceFacts, is_dicom, read_facts
from autoseg.records.dataset import DicomSource
from autoseg.records.errors import DataError

SCANS = ("CT", "MR", "PT")  # what may be a multi-frame scan; single pictures count whenever they say where they lie
NO_SCANS = ("RTDOSE", "RTPLAN", "RTIMAGE", "REG", "SR", "PR", "KO", "FID", "DOC", "AU", "ECG", "RTRECORD")


@dataclass(frozen=True)
class Series:
    """The files of one series, not yet judged.

    Attributes:
        uid: SeriesInstanceUID, or "" where the files have none and were put together by position and orientation.
        patient_key: See `SliceFacts`; "" where PatientID is empty.
        slices: As found, sorted by path.
    """

    uid: str
    patient_key: str
    slices: tuple[SliceFacts, ...]

    @property
    def first(self) -> SliceFacts:
        """The first file, which speaks for the series."""
        return self.slices[0]

    @property
    def source(self) -> DicomSource:
        """How the record of a case names it."""
        return DicomSource(paths=tuple(str(item.path.absolute()) for item in self.slices))

    @property
    def lacks_uids(self) -> bool:
        """Whether a study, series or instance UID is empty: nothing can refer to such images."""
        return any(not (item.study and item.series and item.instance and item.sop_class) for item in self.slices)

    def name(self) -> str:
        """Return a pseudonymous case id, the same wherever the series lies: patient, modality, series."""
        return f"{self.patient_name()}_{self.first.modality or 'OT'}_{_digest(self._identity())[:6]}"

    def patient_name(self) -> str:
        """Return a pseudonym of the patient: of PatientID, else of the study, else of the series."""
        return f"p{self.patient_key or _digest(self.first.study or self._identity())[:8]}"

    def study_name(self) -> str:
        """Return a pseudonym of the patient's study."""
        return f"{self.patient_name()}_{_digest(self.first.study or self.first.frame_of_reference)[:6]}"

    def _identity(self) -> str:
        if self.uid:
            return self.uid
        places = sorted((item.position_mm or (), item.number or 0) for item in self.slices)
        return f"{self.first.frame_of_reference}|{self.first.description}|{places}"


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        series: Sorted by patient, study and UID.
        structure_sets, segmentations: Files with labels, sorted by path.
        notes: What was passed over or is odd, a line each, without anybody's name.
    """

    series: tuple[Series, ...]
    structure_sets: tuple[Path, ...]
    segmentations: tuple[Path, ...]
    notes: tuple[str, ...]


def find(source: Path) -> Found:
    """Return everything that a folder and the folders in it hold, or one file.

    Files are known by their content: names and suffixes do not matter, and what is no DICOM is not mentioned.
    """
    files = [source] if source.is_file() else _files(source)
    slices: list[SliceFacts] = []
    labels: dict[str, list[Path]] = {"RTSTRUCT": [], "SEG": []}
    others: Counter[str] = Counter()
    damaged: list[str] = []
    for path in files:
        try:
            facts = read_facts(path)
        except DataError as error:
            damaged.append(str(error))
            continue
        if facts.modality in labels:
            labels[facts.modality].append(path)
        elif facts.modality in NO_SCANS or not all(facts.size):
            others[facts.modality or "no modality"] += 1
        else:
            slices.append(facts)
    series, notes = _series(slices)
    notes = [f"Warning: {text}" for text in damaged] + notes
    if others:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(others.items()))
        notes.append(f"{others.total()} DICOM files are no images and were passed over ({kinds}).")
    return Found(series, tuple(labels["RTSTRUCT"]), tuple(labels["SEG"]), tuple(notes))


def holds_dicom(source: Path) -> bool:
    """Return whether a file is DICOM, or any file of a folder and the folders in it."""
    return is_dicom(source) if source.is_file() else any(True for _ in _walk(source))


def _files(folder: Path) -> list[Path]:
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files below a folder; linked folders are followed, each folder once."""
    from autoseg.images.files import is_image

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in seen
        )
        for name in sorted(names):
            path = Path(place, name)
            hidden = name.startswith(".") or name.upper() == "DICOMDIR"
            if not hidden and not is_image(path) and path.is_file() and is_dicom(path):
                yield path


def _series(slices: Sequence[SliceFacts]) -> tuple[tuple[Series, ...], list[str]]:
    groups: dict[tuple[object, ...], list[SliceFacts]] = defaultdict(list)
    for item in slices:
        groups[_key(item)].append(item)
    found, notes = [], []
    for group in groups.values():
        series = Series(uid=group[0].series, patient_key=group[0].patient_key, slices=tuple(group))
        reason = _no_scan(group)
        if reason:
            notes.append(f"Series {series.name()} ({len(group)} files) was passed over: {reason}.")
            continue
        found.append(series)
        if series.lacks_uids:
            notes.append(
                f"Warning: series {series.name()} has empty UIDs; {len(group)} files were put together by "
                "orientation and position. DICOM output needs new UIDs (--new-uids)."
            )
    ordered = sorted(found, key=lambda item: (item.patient_name(), item.first.study, item.uid, item.name()))
    return tuple(ordered), notes


def _key(item: SliceFacts) -> tuple[object, ...]:
    if item.series:
        return (item.series,)
    orientation = tuple(round(value, 3) + 0.0 for value in item.orientation or ())
    return (item.path.parent, item.modality, item.study, item.frame_of_reference, orientation, item.size)


def _no_scan(group: Sequence[SliceFacts]) -> str:
    if all(item.is_scout for item in group):
        return "scouts only"
    if not any(item.position_mm and item.orientation for item in group):
        multi_frame = any(multiframe.is_multi_frame(item) and item.modality in SCANS for item in group)
        return "" if multi_frame else "its pictures do not say where they lie"
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
