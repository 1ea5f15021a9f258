"""What one DICOM image file says of itself, read without its voxels and without the name of anybody."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.images import header as headers
from autoseg.records.errors import DataError, reason_of

if TYPE_CHECKING:
    from pydicom import Dataset

READ_TAGS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "Modality", "SeriesDescription", "PatientID", "InstanceNumber", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "Rows", "Columns", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "BitsAllocated", "StudyDate",
)  # fmt: skip


@dataclass(frozen=True)
class SliceFacts:
    """The header of one image file.

    Attributes:
        path: The file.
        modality: CT, MR, PT, ...
        study, series, instance, sop_class, frame_of_reference: UIDs, "" where empty.
        patient_key: A hash of PatientID ("" where it is empty); the ID itself is not kept.
        description: SeriesDescription.
        is_scout: ImageType says LOCALIZER or SCOUT.
        number: InstanceNumber, or None.
        frames, samples: More than 1 in multi-frame and colour images.
        size: Rows and columns.
        orientation: Direction cosines of a row and of a column, or None where missing.
        position_mm: Centre of the first pixel (x, y, z), or None where missing.
        spacing_mm: Distance of rows and of columns, or None where missing.
        thickness_mm: SpacingBetweenSlices, else SliceThickness, else None; only asked where there is one slice.
        transfer_syntax: UID of how the voxels are stored.
        frame: Number of the frame in its file, from 1; None for a file that is one slice, and for a multi-frame file
            that was not yet taken apart (`multiframe.taken_apart`).
        rescale: Slope and intercept of the frame, or None where the file's own header says them.
    """

    path: Path
    modality: str
    study: str
    series: str
    instance: str
    sop_class: str
    frame_of_reference: str
    patient_key: str
    description: str
    is_scout: bool
    number: int | None
    frames: int
    samples: int
    size: tuple[int, int]
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    thickness_mm: float | None
    transfer_syntax: str
    frame: int | None = None
    rescale: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The file's name, and which frame of it, for people."""
        return self.path.name if self.frame is None else f"{self.path.name} frame {self.frame}"


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM does: with the preamble, or, in old files, with group 0002 or 0008."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start[128:132] == b"DICM" or (len(start) == 132 and start[:2] in (b"\x08\0", b"\x02\0") and start[3] == 0)


def read_dataset(path: Path, *, tags: tuple[str, ...] | None = None, voxels: bool = False) -> Dataset:
    """Return a file as pydicom reads it; `tags` alone where given.

    Raises:
        DataError: The file is missing, damaged or no DICOM.
    """
    import pydicom

    headers.require_file(path)
    try:
        return pydicom.dcmread(
            path, stop_before_pixels=not voxels, force=is_dicom(path), specific_tags=list(tags) if tags else None
        )
    except OSError as error:
        raise headers.unreadable(path, error) from error
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise DataError(
            f"cannot be read as DICOM ({reason_of(error)})",
            file=path,
            fix="Export it again from its archive.",
            code="not_dicom",
        ) from None


def read_facts(path: Path) -> SliceFacts:
    """Return what an image file says of itself.

    Raises:
        DataError: The file is no DICOM, or a number in its header is none.
    """
    data = read_dataset(path, tags=READ_TAGS)
    try:
        return _facts(path, data)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"has a damaged header ({reason_of(error)})",
            file=path,
            fix="Export it again from its archive.",
            code="bad_header",
        ) from None


def pseudonym(patient_id: str) -> str:
    """Return a short name that stands for a PatientID: the same for the same ID, "" for an empty one.

    It keeps an ID out of paths and logs; somebody who has a list of all IDs can still find out which one it is.
    """
    plain = patient_id.strip()
    return hashlib.sha256(plain.encode()).hexdigest()[:8] if plain else ""


def _facts(path: Path, data: Dataset) -> SliceFacts:
    meta = getattr(data, "file_meta", None)
    kinds = {str(part).upper() for part in _values(data, "ImageType")}
    number = data.get("InstanceNumber")
    return SliceFacts(
        path=path,
        modality=_text(data, "Modality").upper(),
        study=_text(data, "StudyInstanceUID"),
        series=_text(data, "SeriesInstanceUID"),
        instance=_text(data, "SOPInstanceUID"),
        sop_class=_text(data, "SOPClassUID"),
        frame_of_reference=_text(data, "FrameOfReferenceUID"),
        patient_key=pseudonym(_text(data, "PatientID")),
        description=_text(data, "SeriesDescription"),
        is_scout=bool(kinds & {"LOCALIZER", "SCOUT"}),
        number=None if number in (None, "") else int(number),
        frames=int(data.get("NumberOfFrames") or 1),
        samples=int(data.get("SamplesPerPixel") or 1),
        size=(int(data.get("Rows") or 0), int(data.get("Columns") or 0)),
        orientation=_numbers(data, "ImageOrientationPatient", 6),
        position_mm=_numbers(data, "ImagePositionPatient", 3),
        spacing_mm=_numbers(data, "PixelSpacing", 2),
        thickness_mm=_length(data, "SpacingBetweenSlices") or _length(data, "SliceThickness"),
        transfer_syntax=str(getattr(meta, "TransferSyntaxUID", "") or ""),
    )


def _text(data: Dataset, key: str) -> str:
    return str(data.get(key) or "").strip()


def _values(data: Dataset, key: str) -> list[Any]:
    value = data.get(key)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) else list(value)


def _numbers(data: Dataset, key: str, count: int) -> tuple[float, ...] | None:
    values = tuple(float(value) for value in _values(data, key))
    return values if len(values) == count else None


def _length(data: Dataset, key: str) -> float | None:
    value = data.get(key)
    return float(value) if value not in (None, "") and float(value) > 0 else None
