"""UIDs of what is written: made from a hash, so that equal content has an equal name, and two contents never share one.

Source: DICOM PS3.5 B.2, UIDs under 2.25 from a 128-bit number.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.images.dicom.facts import SliceFacts, pseudonym, read_dataset
from autoseg.images.dicom.gate import Stack
from autoseg.records.errors import DataError
from autoseg.storage import writing

if TYPE_CHECKING:
    from pydicom import Dataset

STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
NAMES = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate",
    "PatientAddress", "PatientTelephoneNumbers", "ReferringPhysicianName", "PhysiciansOfRecord",
    "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician",
    "ResponsiblePerson", "OtherPatientIDsSequence", "ContentCreatorName",
)  # fmt: skip
REQUIRED_BUT_EMPTY = ("PatientName", "PatientBirthDate", "ReferringPhysicianName")


def make_uid(*parts: object) -> str:
    """Return the UID that belongs to these parts."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def without_names(data: Dataset) -> Dataset:
    """Return the same data set with every name, birth date and address of a person emptied or removed."""
    for name in NAMES:
        if name in data:
            delattr(data, name)
    for name in REQUIRED_BUT_EMPTY:
        setattr(data, name, "")
    return data


def require_uids(stack: Stack) -> None:
    """Raise a DataError where an image lacks the UIDs by which SEG and RTSTRUCT refer to it."""
    for item in stack.slices:
        named = {
            "StudyInstanceUID": item.study,
            "SeriesInstanceUID": item.series,
            "SOPInstanceUID": item.instance,
            "SOPClassUID": item.sop_class,
            "FrameOfReferenceUID": item.frame_of_reference,
        }
        lacking = [name for name, value in named.items() if not value]
        if lacking:
            raise DataError(
                f"has no {', '.join(lacking)}, so nothing can be drawn on it in DICOM",
                file=item.path,
                fix="Run again with --new-uids (it writes a copy of the images with new UIDs beside the result), or "
                "with --format nifti.",
                code="empty_uids",
            )


def require_single_frames(stack: Stack) -> None:
    """Raise a DataError where images are frames of one file: `with_new_uids` copies files of one slice."""
    item = stack.slices[0]
    if item.frame is not None:
        raise DataError(
            "is a multi-frame file, of which no copy with new UIDs is written",
            file=item.path,
            fix="Leave --new-uids out, export the series with one file a slice, or write --format nifti.",
            code="multi_frame",
        )


def with_new_uids(stack: Stack, folder: Path, *, hide_patient_id: bool = False) -> Stack:
    """Write a copy of every image with new, consistent UIDs into `folder`, and return the stack of the copies.

    Voxels stay as they are stored; names of persons are left out. The same images give the same UIDs again. A frame
    of reference that is there is kept: other objects may share it. `hide_patient_id` writes a pseudonym for PatientID.
    """
    identity = make_uid(_content(stack), hide_patient_id)
    copies = []
    for number, item in enumerate(stack.slices, start=1):
        data = _renamed(item, identity, number)
        if hide_patient_id:
            data.PatientID = pseudonym(str(data.get("PatientID") or ""))
        copies.append(_written(item, data, folder / f"{number:04d}.dcm"))
    return replace(stack, slices=tuple(copies))


def _content(stack: Stack) -> str:
    """Return a digest of all files: only that tells two patients apart whose headers were emptied alike."""
    digest = hashlib.sha256()
    for item in stack.slices:
        digest.update(item.path.read_bytes())
    return digest.hexdigest()


def _renamed(item: SliceFacts, identity: str, number: int) -> Dataset:
    data = without_names(read_dataset(item.path, voxels=True))
    meta = data.file_meta
    data.StudyInstanceUID = make_uid(identity, "study")
    data.SeriesInstanceUID = make_uid(identity, "series")
    data.SOPInstanceUID = make_uid(identity, "image", number)
    data.SOPClassUID = item.sop_class or meta.get("MediaStorageSOPClassUID") or STORAGE.get(item.modality, "")
    data.FrameOfReferenceUID = item.frame_of_reference or make_uid(identity, "frame")
    if data.get("SeriesNumber") is None:
        data.SeriesNumber = 1
    meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID = data.SOPInstanceUID, data.SOPClassUID
    return data


def _written(item: SliceFacts, data: Dataset, path: Path) -> SliceFacts:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)
    return replace(
        item,
        path=path,
        study=str(data.StudyInstanceUID),
        series=str(data.SeriesInstanceUID),
        instance=str(data.SOPInstanceUID),
        sop_class=str(data.SOPClassUID),
        frame_of_reference=str(data.FrameOfReferenceUID),
    )
