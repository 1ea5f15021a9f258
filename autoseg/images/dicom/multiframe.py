"""Enhanced multi-frame files (CT, MR, PET): each frame as a slice that says where it lies.

Geometry and rescaling stand in the functional groups: those that all frames share, and those of each frame, which win.
Source: DICOM PS3.3 C.7.6.16 (Multi-frame Functional Groups Module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.images.dicom.facts import SliceFacts, read_dataset
from autoseg.records.errors import DataError, reason_of

if TYPE_CHECKING:
    from pydicom import Dataset

ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET",
}
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
FRAME_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")
SCOUTS = {"LOCALIZER", "SCOUT"}


def is_multi_frame(item: SliceFacts) -> bool:
    """Return whether a file holds frames that have to be taken apart, one alone included."""
    return item.frame is None and (item.frames > 1 or item.sop_class in ENHANCED)


def taken_apart(slices: Sequence[SliceFacts]) -> list[SliceFacts]:
    """Return slices with every multi-frame file as its frames, each with a place, a spacing and a rescaling of its own.

    Raises:
        DataError: A file has no functional groups, as ultrasound and pictures of screens, or not one for each frame.
    """
    return [part for item in slices for part in (_frames(item) if is_multi_frame(item) else (item,))]


def pixels(item: SliceFacts) -> np.ndarray:
    """Return one frame, float32 (Y, X), rescaled.

    Raises:
        ValueError: Its voxels are cut short, or compressed in a way that nobody here reads.
    """
    from pydicom.pixels.utils import pixel_array

    assert item.frame is not None
    try:
        stored = pixel_array(item.path, index=item.frame - 1, raw=True)
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise ValueError(str(error)) from None
    slope, intercept = item.rescale or (1.0, 0.0)
    return np.asarray(stored, np.float32) * np.float32(slope) + np.float32(intercept)


def _frames(item: SliceFacts) -> list[SliceFacts]:
    data = read_dataset(item.path, tags=GROUPS)
    each = list(data.get(GROUPS[1]) or ())
    if not each:
        raise _refusal(item, "does not say where they lie (no functional groups)")
    if len(each) != item.frames:
        raise _refusal(item, f"says where {len(each)} lie")
    shared = (data.get(GROUPS[0]) or [None])[0]
    try:
        return [_frame(item, number, shared, own) for number, own in enumerate(each, start=1)]
    except (TypeError, ValueError, AttributeError) as error:
        raise _refusal(item, f"has damaged functional groups ({reason_of(error)})") from None


def _frame(item: SliceFacts, number: int, shared: Dataset | None, own: Dataset) -> SliceFacts:
    def group(name: str) -> Any:
        for place in (own, shared):
            if place is not None and place.get(name):
                return place[name][0]
        return {}

    measures, values = group("PixelMeasuresSequence"), group("PixelValueTransformationSequence")
    kinds = {str(kind).upper() for name in FRAME_TYPES for kind in group(name).get("FrameType") or ()}
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    return replace(
        item,
        frame=number,
        frames=1,
        number=number,
        is_scout=item.is_scout or bool(kinds & SCOUTS),
        orientation=_numbers(group("PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        position_mm=_numbers(group("PlanePositionSequence").get("ImagePositionPatient"), 3),
        spacing_mm=_numbers(measures.get("PixelSpacing"), 2),
        thickness_mm=float(thickness) if thickness and float(thickness) > 0 else None,
        rescale=(_number(values.get("RescaleSlope"), 1.0), _number(values.get("RescaleIntercept"), 0.0)),
    )


def _numbers(values: Sequence[Any] | None, count: int) -> tuple[float, ...] | None:
    found = tuple(float(value) for value in values or ())
    return found if len(found) == count else None


def _number(value: Any, otherwise: float) -> float:
    return otherwise if value in (None, "") else float(value)


def _refusal(item: SliceFacts, what: str) -> DataError:
    return DataError(
        f"holds {item.frames} frames in one file, and {what}",
        file=item.path,
        fix="Export the series with one file a slice.",
        code="no_slice",
    )
