"""DICOM SEG out, by highdicom: one label map, or one bit a voxel and segment where structures overlap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.images.dicom.drawing import DrawnStructure, content_uid, short, software, source_headers
from autoseg.images.dicom.gate import Stack
from autoseg.images.dicom.names import code_of
from autoseg.images.dicom.uids import make_uid, require_uids
from autoseg.records.errors import DataError, ResourceError
from autoseg.storage import writing

if TYPE_CHECKING:
    from pydicom import Dataset

# Lossless JPEG-LS makes a label map seventy times smaller in the time that plain bytes take; one bit a voxel is plain.
SYNTAXES = {"LABELMAP": "1.2.840.10008.1.2.4.80", "BINARY": "1.2.840.10008.1.2.1"}


def write(
    path: Path,
    structures: Sequence[DrawnStructure],
    stack: Stack,
    *,
    about: str,
    binary: bool = False,
    hide_patient_id: bool = False,
) -> None:
    """Write a SEG on the voxels of the images; equal input gives equal bytes.

    Args:
        path: Of the file.
        structures: Every one becomes a segment, 1, 2, 3 ... in order; an empty one has no voxel.
        stack: The images; where their gantry was tilted, masks go back onto the leaning slices (nearest voxel).
        about: Where the structures come from, for people.
        binary: Write type BINARY, which older viewers read, instead of LABELMAP; always so where structures overlap.
        hide_patient_id: See `drawing.source_headers`.

    Raises:
        DataError: An image has no UIDs to refer to, or the images are some frames of a file, or frames of several.
        ResourceError: highdicom is not installed, or the disk is full.
    """
    _require_highdicom()
    require_uids(stack)
    array = _label_map(structures, stack)
    kind = "BINARY" if binary or array.ndim == 4 else "LABELMAP"
    names = (f"{item.number} {item.name} {item.colour}\n".encode() for item in structures)
    uid = content_uid(f"SEG {kind}", stack, about, (*names, np.ascontiguousarray(array).tobytes()))
    headers = source_headers(stack, hide_patient_id=hide_patient_id)
    if stack.slices[0].frame is not None:
        array = array[_file_order(stack, headers)]
        _share_plane(headers[0])
    data = _segmentation(structures, array, headers, uid=uid, about=about, kind=kind)
    with writing(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def _segmentation(
    structures: Sequence[DrawnStructure],
    array: np.ndarray,
    headers: Sequence[Dataset],
    *,
    uid: str,
    about: str,
    kind: str,
) -> Any:
    import highdicom

    data = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=[_description(number, item) for number, item in enumerate(structures, start=1)],
        series_instance_uid=make_uid(uid, "series"),
        series_number=1,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="autoseg",
        manufacturer_model_name="autoseg",
        software_versions=software(),
        device_serial_number="none",
        content_description=short(about),
        content_label="AUTOSEG",
        transfer_syntax_uid=SYNTAXES[kind],
        series_description="autoseg",
    )
    return _settled(data, headers[0], uid)


def _label_map(structures: Sequence[DrawnStructure], stack: Stack) -> np.ndarray:
    """Return numbers (Z, Y, X) as stored, or, where structures overlap, a mask each: bool (Z, Y, X, structures)."""
    shape = (len(stack.slices), *stack.slices[0].size)
    array = np.zeros(shape, np.uint8 if len(structures) <= 255 else np.uint16)
    for number, item in enumerate(structures, start=1):
        mask = _as_stored(item.mask(), stack)
        if array[mask].any():
            return np.stack([_as_stored(item.mask(), stack) for item in structures], axis=-1)
        array[mask] = number
    return array


def _file_order(stack: Stack, headers: Sequence[Dataset]) -> np.ndarray:
    """Return which slice of the stack each frame of its file is: a SEG lists a multi-frame image as it is stored."""
    order = np.argsort([item.frame or 0 for item in stack.slices])
    if len(headers) > 1 or len(order) != int(headers[0].get("NumberOfFrames") or 1):
        raise DataError(
            f"the scan is {len(order)} frames of {len(headers)} multi-frame files; no SEG is drawn on parts of a file",
            file=stack.slices[0].path,
            fix="Write --format rtstruct or nifti.",
            code="parts_of_frames",
        )
    return np.asarray(order)


def _share_plane(header: Dataset) -> None:
    """Put into the shared groups what the gate found alike in all frames: highdicom looks for it only there."""
    from pydicom import Dataset

    each = header.PerFrameFunctionalGroupsSequence
    if not header.get("SharedFunctionalGroupsSequence"):
        header.SharedFunctionalGroupsSequence = [Dataset()]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in header.SharedFunctionalGroupsSequence[0]:
            setattr(header.SharedFunctionalGroupsSequence[0], name, each[0][name].value)


def _description(number: int, item: DrawnStructure) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=short(item.name),
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=code_of(item.name),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="autoseg", version=software(), family=codes.DCM.ArtificialIntelligence
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*item.colour),
    )


def _settled(data: Any, first: Dataset, uid: str) -> Any:
    """Put dates of the scan and UIDs of the content where highdicom puts the time of day and chance."""
    date, time = first.get("StudyDate") or "19000101", first.get("StudyTime") or "000000"
    for name in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        if name in data:
            setattr(data, name, date)
    for name in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        if name in data:
            setattr(data, name, time)
    for item in data.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    organization = make_uid(uid, "dimensions")
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return data


def _as_stored(mask: np.ndarray, stack: Stack) -> np.ndarray:
    """Return a mask on the voxels of the stored slices."""
    if stack.drift_pixels is None:
        return mask
    rows, columns = stack.slices[0].size
    result = np.zeros((len(mask), rows, columns), bool)
    for target, picture, (y, x) in zip(result, mask, np.floor(stack.drift_pixels + 0.5).astype(int), strict=True):
        cut = picture[y : y + rows, x : x + columns]
        target[: cut.shape[0], : cut.shape[1]] = cut
    return result


def _require_highdicom() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise ResourceError(
            "DICOM SEG is written by the package highdicom, which is not installed",
            fix="Run `pip install 'autoseg[dicom]'`, or write --format rtstruct or nifti.",
            code="missing_package",
        ) from None
