"""RTSTRUCT out: contours of masks in patient coordinates, on the images that they were found on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoseg.images.dicom.drawing import (
    TAKEN_OVER,
    DrawnStructure,
    content_uid,
    short,
    software,
    source_headers,
)
from autoseg.images.dicom.facts import SliceFacts
from autoseg.images.dicom.gate import Stack
from autoseg.images.dicom.outlines import outlines
from autoseg.images.dicom.uids import make_uid, require_uids
from autoseg.storage import writing

if TYPE_CHECKING:
    from pydicom import Dataset

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY = "1.2.840.10008.3.1.2.3.1"
CONTOUR_DATA = 0x30060050
# Contours can be longer than the 64 KiB that an explicit DS holds; implicit lengths have 32 bits.
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"


def write(
    path: Path, structures: Sequence[DrawnStructure], stack: Stack, *, about: str, hide_patient_id: bool = False
) -> None:
    """Write an RTSTRUCT: unapproved organs, generated automatically; equal input gives equal bytes.

    Args:
        path: Of the file.
        structures: Every one becomes an ROI; one without a voxel has no contour.
        stack: The images; study, frame of reference and instances are taken over.
        about: Where the structures come from, for people.
        hide_patient_id: See `drawing.source_headers`.

    Raises:
        DataError: An image has no UIDs to refer to.
        ResourceError: The disk is full or the folder cannot be written.
    """
    require_uids(stack)
    first = source_headers(stack, hide_patient_id=hide_patient_id)[0]
    contours = [_contours(item, stack) for item in structures]
    uid = content_uid("RTSTRUCT", stack, about, _content(structures, contours))
    data = _head(first, uid, about)
    data.ReferencedFrameOfReferenceSequence = [_references(stack)]
    frame = stack.slices[0].frame_of_reference
    data.StructureSetROISequence = [_roi(item, frame) for item in structures]
    data.ROIContourSequence = contours
    data.RTROIObservationsSequence = [_observation(item) for item in structures]
    data.ApprovalStatus = "UNAPPROVED"
    with writing(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def contour_points(mask: np.ndarray, z: int, stack: Stack) -> list[np.ndarray]:
    """Return the contours of one slice of a mask as (n, 3) points (x, y, z) in mm.

    Args:
        mask: Bool (Y, X).
        z: Which slice.
        stack: Whose grid it lies on; a slice of an upright stack lies in the plane of the leaning one.
    """
    affine = stack.grid.affine()
    return [line @ affine[:3, 1:3].T + affine[:3, 0] * z + affine[:3, 3] for line in outlines(mask)]


def _head(first: Dataset, uid: str, about: str) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    data = Dataset()
    for name in TAKEN_OVER:
        if name in first:
            setattr(data, name, first[name].value)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = STORAGE, uid
    data.SeriesInstanceUID = make_uid(uid, "series")
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "RTSTRUCT", "autoseg", "autoseg"
    data.SoftwareVersions = software()
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.SeriesDescription = "autoseg"
    data.StructureSetLabel, data.StructureSetName = "autoseg", short(about)
    data.StructureSetDescription = "Drawn automatically; not approved."
    for name in ("PatientName", "PatientBirthDate", "ReferringPhysicianName", "OperatorsName", "StructureSetDate"):
        setattr(data, name, "")
    data.StructureSetTime = ""
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(IMPLICIT_LITTLE_ENDIAN)
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = UID(STORAGE), UID(uid)
    return data


def _content(structures: Sequence[DrawnStructure], contours: Sequence[Dataset]) -> Iterator[bytes]:
    for item, drawn in zip(structures, contours, strict=True):
        yield f"\n{item.number} {item.name} {item.colour}".encode()
        for contour in drawn.get("ContourSequence") or ():
            yield contour.get_item(CONTOUR_DATA).value


def _references(stack: Stack) -> Dataset:
    from pydicom import Dataset

    first = stack.slices[0]
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.series
    series.ContourImageSequence = [_image(item) for item in stack.slices]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, first.study
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(item: SliceFacts) -> Dataset:
    from pydicom import Dataset

    data = Dataset()
    data.ReferencedSOPClassUID, data.ReferencedSOPInstanceUID = item.sop_class, item.instance
    if item.frame is not None:
        data.ReferencedFrameNumber = item.frame
    return data


def _roi(item: DrawnStructure, frame: str) -> Dataset:
    from pydicom import Dataset

    data = Dataset()
    data.ROINumber = item.number
    data.ReferencedFrameOfReferenceUID = frame
    data.ROIName = short(item.name)
    data.ROIGenerationAlgorithm = "AUTOMATIC"
    return data


def _contours(item: DrawnStructure, stack: Stack) -> Dataset:
    from pydicom import Dataset

    data = Dataset()
    data.ReferencedROINumber = item.number
    data.ROIDisplayColor = list(item.colour)
    mask = item.mask()
    contours = [
        _contour(points, stack.slices[z])
        for z in np.flatnonzero(mask.any(axis=(1, 2)))
        for points in contour_points(mask[z], int(z), stack)
    ]
    if contours:
        data.ContourSequence = contours
    return data


def _contour(points: np.ndarray, image: SliceFacts) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    data = Dataset()
    data.ContourImageSequence = [_image(image)]
    data.ContourGeometricType = "CLOSED_PLANAR"
    data.NumberOfContourPoints = len(points)
    text = "\\".join(f"{value:.4f}" for value in points.ravel()).encode()
    text += b" " * (len(text) % 2)
    # As bytes: pydicom would make, and check, an object of every number.
    data[CONTOUR_DATA] = RawDataElement(Tag(CONTOUR_DATA), "DS", len(text), text, 0, True, True)
    return data


def _observation(item: DrawnStructure) -> Dataset:
    from pydicom import Dataset

    data = Dataset()
    data.ObservationNumber = data.ReferencedROINumber = item.number
    data.RTROIInterpretedType = "ORGAN"
    data.ROIInterpreter = ""
    return data
