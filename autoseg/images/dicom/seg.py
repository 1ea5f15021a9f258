"""DICOM SEG in: frames of segments become masks on the image's grid, each frame placed by its own position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.images.dicom.facts import pseudonym, read_dataset
from autoseg.images.dicom.rtstruct import require_frame
from autoseg.records.dataset import DicomSegSource
from autoseg.records.errors import DataError, reason_of
from autoseg.records.geometry import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

SHIFT_SLICES = 0.25
KINDS = ("BINARY", "LABELMAP", "FRACTIONAL")


@dataclass(frozen=True)
class Segment:
    """One segment: its number in the file, and what it is called there."""

    number: int
    name: str


@dataclass(frozen=True)
class SegFile:
    """A DICOM SEG file without its voxels.

    Attributes:
        kind: BINARY, LABELMAP or FRACTIONAL (a voxel counts from half of the largest value up).
        series: UIDs of the image series that it was made on.
        instances: UIDs of the images that it names.
        made: Date and time of the content, as text that sorts.
        patient_key: See `SliceFacts`.
        segments: In the order of the file, without a background.
    """

    path: Path
    kind: str
    frame_of_reference: str
    series: tuple[str, ...]
    instances: frozenset[str]
    made: str
    patient_key: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class _Frame:
    """One picture of a SEG, and where it lies: `to_index` leads from (1, row, column) to (z, y, x) of the image."""

    segment: int
    array: np.ndarray
    to_index: np.ndarray


def read(path: Path) -> SegFile:
    """Return what a file says of itself.

    Raises:
        DataError: The file is damaged, no SEG, or of a type that is not known.
    """
    return _describe(path, read_dataset(path))


def paint(source: DicomSegSource, grid: Grid, *, dtype: type) -> np.ndarray:
    """Return inside values (Z, Y, X) on the image's grid; a later segment wins where two overlap.

    Raises:
        DataError: A segment is missing, or the frames lie elsewhere than the image's voxels.
    """
    result: np.ndarray = np.zeros(grid.shape, dtype)
    frames: dict[str, list[_Frame]] = {}
    for path in source.files():
        data = read_dataset(Path(path), voxels=True)
        found = _describe(Path(path), data)
        require_frame(found.frame_of_reference, source.frame_of_reference, what="it", file=path)
        frames[path] = list(_frames(Path(path), data, grid))
        known = {segment.number for segment in found.segments}
        absent = [part.number for part in source.segments if part.path == path and part.number not in known]
        if absent:
            raise DataError(
                f"has no segment {absent[0]}; there are {', '.join(map(str, sorted(known))) or 'none'}",
                file=path,
                fix="The file has changed: import the data set again.",
                code="missing_segment",
            )
    for part in source.segments:
        for frame in frames[part.path]:
            if frame.segment in (0, part.number):
                picture = frame.array == part.number if frame.segment == 0 else frame.array
                _place(result, picture, frame.to_index, part.value)
    return result


def sizes(path: Path) -> dict[int, int]:
    """Return segment number -> voxels."""
    data = read_dataset(path, voxels=True)
    found = dict.fromkeys((segment.number for segment in _describe(path, data).segments), 0)
    for number, picture in _pictures(path, data):
        for value in [number] if number else [value for value in found if value]:
            found[value] += int(np.count_nonzero(picture if number else picture == value))
    return found


def _describe(path: Path, data: Dataset) -> SegFile:
    kind = str(data.get("SegmentationType") or "").upper()
    if str(data.get("Modality")) != "SEG" or kind not in KINDS:
        raise DataError(
            f"is {data.get('Modality')} of type {kind or 'unknown'}, not a SEG of type {', '.join(KINDS)}",
            file=path,
            fix="Name another file.",
            code="not_seg",
        )
    try:
        segments = tuple(_segments(data))
        series = [item for item in data.get("ReferencedSeriesSequence") or ()]
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None
    return SegFile(
        path=path,
        kind=kind,
        frame_of_reference=str(data.get("FrameOfReferenceUID") or ""),
        series=tuple(str(item.get("SeriesInstanceUID") or "") for item in series),
        instances=frozenset(
            str(image.get("ReferencedSOPInstanceUID") or "")
            for item in series
            for image in item.get("ReferencedInstanceSequence") or ()
        ),
        made=f"{data.get('ContentDate') or ''}{data.get('ContentTime') or ''}",
        patient_key=pseudonym(str(data.get("PatientID") or "")),
        segments=segments,
    )


def _segments(data: Dataset) -> Iterator[Segment]:
    for item in data.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        kinds = item.get("SegmentedPropertyTypeCodeSequence") or [None]
        meaning = str(kinds[0].get("CodeMeaning") or "") if kinds[0] is not None else ""
        name = str(item.get("SegmentLabel") or "").strip() or meaning or f"segment {number}"
        if number > 0:
            yield Segment(number, name)


def _pictures(path: Path, data: Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """Yield segment number (0: the values are numbers) and the picture, (rows, columns), of every frame."""
    try:
        array = np.asarray(data.pixel_array)
        count = int(data.get("NumberOfFrames") or 1)
        array = array.reshape(count, int(data.Rows), int(data.Columns))
        kind = str(data.SegmentationType).upper()
        half = float(data.get("MaximumFractionalValue") or 255) / 2
        for item, picture in zip(data.PerFrameFunctionalGroupsSequence, array, strict=True):
            if kind == "LABELMAP":
                yield 0, picture
                continue
            group = _group(item, data, "SegmentIdentificationSequence")
            yield int(group.ReferencedSegmentNumber), picture >= half if kind == "FRACTIONAL" else picture > 0
    except DataError:
        raise
    except Exception as error:  # pydicom raises whatever the bytes provoke
        raise _damaged(path, error) from None


def _frames(path: Path, data: Dataset, grid: Grid) -> Iterator[_Frame]:
    from_patient = np.linalg.inv(grid.affine())
    for place, (number, picture) in enumerate(_pictures(path, data)):
        item = data.PerFrameFunctionalGroupsSequence[place]
        to_index = from_patient[:3] @ _frame_affine(item, data)
        steps = np.abs(to_index[:, 1:])
        whole = np.rint(steps)
        off_mm = np.abs(steps - whole) @ np.array(picture.shape, float)
        slice_number = to_index[0, 0]
        aligned = whole[0].max() == 0 and whole.sum() == 2 and (whole.sum(axis=0) == 1).all()
        if not aligned or off_mm.max() > 0.5 or abs(slice_number - round(slice_number)) > SHIFT_SLICES:
            raise DataError(
                f"frame {place + 1} does not lie on the voxels of the image "
                f"(its first pixel is at {', '.join(f'{value:.2f}' for value in to_index[:, 0])} z, y, x)",
                file=path,
                fix="Take the segmentation made on this series, or resample it onto the series.",
                code="seg_geometry",
            )
        yield _Frame(number, picture, to_index)


def _frame_affine(item: Dataset, data: Dataset) -> np.ndarray:
    """Return the (4, 3) matrix from (1, row, column) to patient (x, y, z, 1)."""
    position = np.array(_group(item, data, "PlanePositionSequence").ImagePositionPatient, float)
    row, column = np.reshape(_group(item, data, "PlaneOrientationSequence").ImageOrientationPatient, (2, 3))
    dy, dx = (float(value) for value in _group(item, data, "PixelMeasuresSequence").PixelSpacing)
    matrix = np.zeros((4, 3))
    matrix[:3, 0], matrix[3, 0] = position, 1.0
    matrix[:3, 1] = np.array(column, float) * dy
    matrix[:3, 2] = np.array(row, float) * dx
    return matrix


def _group(item: Dataset, data: Dataset, name: str) -> Any:
    """Return a functional group of a frame, of its own or shared."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return (item.get(name) or shared.get(name))[0]


def _place(result: np.ndarray, picture: np.ndarray, to_index: np.ndarray, value: int) -> None:
    """Write `value` where a frame is True; what lies outside of the image is dropped."""
    rows, columns = np.nonzero(picture)
    points = np.stack([np.ones(len(rows)), rows, columns])
    index = np.floor(to_index @ points + 0.5).astype(int)
    keep = ((index >= 0) & (index < np.array(result.shape)[:, None])).all(axis=0)
    result[tuple(index[:, keep])] = value


def _damaged(path: Path, error: Exception) -> DataError:
    what = f"is a damaged segmentation ({reason_of(error)})"
    return DataError(what, file=path, fix="Export it again.", code="bad_seg")
