"""RTSTRUCT in: contours in patient coordinates become masks on the image's grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoseg.images.dicom import polygons
from autoseg.images.dicom.facts import read_dataset
from autoseg.records.dataset import RtstructSource
from autoseg.records.errors import DataError, reason_of
from autoseg.records.geometry import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
PARALLEL_SLICES = 0.25  # a contour that climbs further than this through the slices was not drawn on them
OFF_SLICES = 0.1
SAME_PLANE = 0.05


@dataclass(frozen=True)
class Roi:
    """One region of interest.

    Attributes:
        number, name: As the file has them; the number is unique.
        kind: RTROIInterpretedType (ORGAN, EXTERNAL, PTV, ...), "" where the file does not say.
        frame_of_reference: UID of the coordinates of its points.
        contours: (n, 3) points (x, y, z) in mm a closed contour, n at least 3.
        notes: What was passed over, for people.
    """

    number: int
    name: str
    kind: str
    frame_of_reference: str
    contours: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StructureSet:
    """An RTSTRUCT file.

    Attributes:
        frame_of_reference: UID of the coordinates, of the first ROI where the file itself names none.
        series: UIDs of the image series that it was drawn on.
        instances: UIDs of the images that its contours name.
        made: Date and time of the structure set, as text that sorts.
        patient_key: See `SliceFacts`.
    """

    path: Path
    frame_of_reference: str
    series: tuple[str, ...]
    instances: frozenset[str]
    made: str
    patient_key: str
    rois: tuple[Roi, ...]


def read(path: Path) -> StructureSet:
    """Return every ROI of a file; contours that are points, lines or have fewer than 3 points are noted, not kept.

    Raises:
        DataError: The file is damaged or no RTSTRUCT.
    """
    from autoseg.images.dicom.facts import pseudonym

    data = read_dataset(path)
    if str(data.get("Modality")) != "RTSTRUCT":
        raise DataError(f"is {data.get('Modality')}, not RTSTRUCT", file=path, fix="Name another.", code="not_rtstruct")
    try:
        rois = tuple(_rois(data, path))
        frames = [str(item.get("FrameOfReferenceUID") or "") for item in _items(data, "ReferencedFrameOfReference")]
        return StructureSet(
            path=path,
            frame_of_reference=next(filter(None, [*frames, *(roi.frame_of_reference for roi in rois)]), ""),
            series=tuple(_referenced_series(data)),
            instances=frozenset(_instances(data)),
            made=f"{data.get('StructureSetDate') or ''}{data.get('StructureSetTime') or ''}",
            patient_key=pseudonym(str(data.get("PatientID") or "")),
            rois=rois,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"has a damaged structure set ({reason_of(error)})",
            file=path,
            fix="Export it again.",
            code="bad_rtstruct",
        ) from None


def mask(roi: Roi, grid: Grid, *, file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return bool (Z, Y, X) where an ROI lies, and what is odd about it.

    Raises:
        DataError: Its contours are not parallel to the slices, or all lie outside of the scan.
    """
    result = np.zeros(grid.shape, bool)
    planes, notes = _planes(roi, grid, file)
    crossing = 0
    for z, outlines in planes.items():
        result[z], crossed = polygons.fill(outlines, grid.shape[1:])
        crossing += crossed
    if crossing:
        notes.append(f"{crossing} contours cross another one; they were united")
    empty = sum(not result[z].any() for z in planes)
    if empty:
        notes.append(f"on {empty} of {len(planes)} slices it encloses no voxel centre")
    used = sorted(planes)
    gaps = used[-1] - used[0] + 1 - len(used) if used else 0
    if gaps:
        notes.append(f"{gaps} slices between its first and last have no contour")
    return result, tuple(f"ROI {roi.name!r}: {note}" for note in notes)


def misplaced(roi: Roi, grid: Grid, *, file: Path) -> tuple[str, ...]:
    """Return what is odd about where an ROI lies, without making its mask.

    Raises:
        DataError: See `mask`.
    """
    return tuple(f"ROI {roi.name!r}: {note}" for note in _planes(roi, grid, file)[1])


def paint(source: RtstructSource, grid: Grid, *, dtype: type) -> np.ndarray:
    """Return inside values (Z, Y, X) on the image's grid; a later ROI wins where two overlap.

    Raises:
        DataError: An ROI is missing, has no contour, or lies in another frame of reference.
    """
    result: np.ndarray = np.zeros(grid.shape, dtype)
    files = {path: read(Path(path)) for path in source.files()}
    for part in source.rois:
        found = {roi.number: roi for roi in files[part.path].rois}
        roi = found.get(part.number)
        if roi is None or not roi.contours:
            raise DataError(
                f"has no contours of ROI {part.number}; there are {', '.join(map(str, sorted(found))) or 'none'}",
                file=part.path,
                fix="The file has changed: import the data set again.",
                code="missing_roi",
            )
        require_frame(roi.frame_of_reference, source.frame_of_reference, what=f"ROI {roi.name!r}", file=part.path)
        result[mask(roi, grid, file=Path(part.path))[0]] = part.value
    return result


def require_frame(found: str, expected: str, *, what: str, file: object) -> None:
    """Raise a DataError where two frames of reference are known and differ: their coordinates do not meet."""
    if found and expected and found != expected:
        raise DataError(
            f"{what} lies in the frame of reference {found}, the image in {expected}",
            file=file,
            fix="Their coordinates do not belong together: take the labels drawn on this image, or register first.",
            code="frame_of_reference",
        )


def _rois(data: Dataset, path: Path) -> Iterator[Roi]:
    drawn = {int(item.ReferencedROINumber): item for item in _items(data, "ROIContour")}
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType") or "")
        for item in _items(data, "RTROIObservations")
        if item.get("ReferencedROINumber") is not None
    }
    for item in _items(data, "StructureSetROI"):
        number = int(item.ROINumber)
        contours, notes = _contours(drawn[number]) if number in drawn else ([], [])
        name = str(item.get("ROIName") or f"ROI {number}").strip()
        yield Roi(
            number=number,
            name=name,
            kind=kinds.get(number, ""),
            frame_of_reference=str(item.get("ReferencedFrameOfReferenceUID") or ""),
            contours=tuple(contours),
            notes=tuple(f"ROI {name!r}: {note}" for note in notes),
        )


def _contours(item: Dataset) -> tuple[list[np.ndarray], list[str]]:
    kept: list[np.ndarray] = []
    other: dict[str, int] = defaultdict(int)
    for contour in _items(item, "Contour"):
        kind = str(contour.get("ContourGeometricType") or "CLOSED_PLANAR")
        points = _points(contour)
        if kind not in CLOSED:
            other[f"{kind} contours enclose nothing and"] += 1
        elif len(points) < 3:
            other["contours with fewer than 3 points"] += 1
        else:
            kept.append(points)
    return kept, [f"{count} {what} were passed over" for what, count in other.items()]


def _points(contour: Dataset) -> np.ndarray:
    """Return (n, 3) points; the text is split here, because pydicom makes an object of every number."""
    raw = contour.get_item("ContourData")
    value = None if raw is None else raw.value
    if not value:
        return np.zeros((0, 3))
    numbers = value.split(b"\\") if isinstance(value, bytes) else value
    return np.array([float(number) for number in numbers]).reshape(-1, 3)


def _planes(roi: Roi, grid: Grid, file: Path) -> tuple[dict[int, list[np.ndarray]], list[str]]:
    """Return slice -> contours (y, x) in voxel indices."""
    to_index = np.linalg.inv(grid.affine())
    found: dict[int, list[tuple[float, np.ndarray]]] = defaultdict(list)
    outside = off = 0
    for points in roi.contours:
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        if np.ptp(index[:, 0]) > PARALLEL_SLICES:
            raise DataError(
                f"ROI {roi.name!r} has contours that are not parallel to the slices of the image",
                file=file,
                fix="Export the contours on the slices of this series.",
                code="oblique_contour",
            )
        place = float(index[:, 0].mean())
        z = round(place)
        off += abs(place - z) > OFF_SLICES
        if 0 <= z < grid.shape[0]:
            found[z].append((place, index[:, 1:]))
        else:
            outside += 1
    if outside and not found:
        raise DataError(
            f"ROI {roi.name!r} lies outside of the image", file=file, fix="Is it another series?", code="outside_image"
        )
    notes = [f"{outside} contours lie beyond the first or last slice"] if outside else []
    notes += [f"{off} contours lie between two slices; each went to the nearer one"] if off else []
    planes = {z: _nearest_plane(found[z], z) for z in sorted(found)}
    dropped = sum(map(len, found.values())) - sum(map(len, planes.values()))
    notes += [f"{dropped} contours share a slice with others that lie nearer to it"] if dropped else []
    return planes, notes


def _nearest_plane(contours: Sequence[tuple[float, np.ndarray]], z: int) -> list[np.ndarray]:
    """Keep the plane nearest to a slice: two planes on one slice would cut holes into one another."""
    nearest = min((place for place, _ in contours), key=lambda place: abs(place - z))
    return [outline for place, outline in contours if abs(place - nearest) <= SAME_PLANE]


def _items(data: Dataset, name: str) -> Sequence[Any]:
    return data.get(f"{name}Sequence") or ()


def _referenced_series(data: Dataset) -> Iterator[str]:
    for frame in _items(data, "ReferencedFrameOfReference"):
        for study in _items(frame, "RTReferencedStudy"):
            for series in _items(study, "RTReferencedSeries"):
                yield str(series.get("SeriesInstanceUID") or "")


def _instances(data: Dataset) -> Iterator[str]:
    for roi in _items(data, "ROIContour"):
        for contour in _items(roi, "Contour"):
            for image in _items(contour, "ContourImage"):
                yield str(image.get("ReferencedSOPInstanceUID") or "")
