"""RTSTRUCT there and back, on a real CT; rt-utils is the oracle where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from scipy import ndimage

from autoseg.images.cases import read_labels
from autoseg.images.dicom import rtstruct, rtstruct_writing
from autoseg.records.dataset import DicomPart, RtstructSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Structure
from tests.images.dicom.conftest import RealCt, drawn

HOLE_MM2 = np.pi * (31 * 0.9765625) ** 2
GRID = Grid(shape=(4, 12, 16), spacing_mm=(2.0, 1.5, 0.5), origin_mm=(-10.0, -20.0, 30.0))


def square(low: float, high: float, z: float) -> np.ndarray:
    """Corners (x, y, z) in mm of a square between voxel indices `low` and `high` on the plane `z` of GRID."""
    corners = [(z, y, x, 1.0) for y, x in ((low, low), (low, high), (high, high), (high, low))]
    return (GRID.affine() @ np.array(corners).T)[:3].T


def roi(*contours: np.ndarray, name: str = "Liver") -> rtstruct.Roi:
    return rtstruct.Roi(number=1, name=name, kind="ORGAN", frame_of_reference="1.2.3.9", contours=contours)


def painted(real_ct: RealCt, path: Path) -> list[np.ndarray]:
    return [rtstruct.mask(item, real_ct.stack.grid, file=path)[0] for item in rtstruct.read(path).rois]


def centroid_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return grid.affine()[:3] @ np.array([*ndimage.center_of_mass(mask), 1.0])


def hd95_pixels(one: np.ndarray, other: np.ndarray) -> float:
    """The 95th percentile of distances between surfaces within slices, in pixels, the larger of both ways."""
    around = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in ndimage.find_objects((one | other).astype(int))[0])
    one, other = one[around], other[around]
    surfaces = [mask & ~ndimage.binary_erosion(mask, np.ones((1, 3, 3))) for mask in (one, other)]
    spacing = (1000.0, 1.0, 1.0)
    reach = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return max(np.percentile(reach[1][surfaces[0]], 95), np.percentile(reach[0][surfaces[1]], 95))


def ring(real_ct: RealCt) -> np.ndarray:
    """A structure with a hole, an island in it, and a second piece."""
    mask = np.zeros(real_ct.stack.grid.shape, bool)
    y, x = np.mgrid[:512, :512]
    far = np.hypot(y - 250, x - 230.3)
    mask[4:12] = ((far < 60) & (far > 31)) | (far < 9) | (np.hypot(y - 250, x - 380) < 12.5)
    return mask


def test_every_structure_comes_back_voxel_by_voxel(real_ct: RealCt, tmp_path: Path) -> None:
    path = tmp_path / "rt.dcm"
    structures = [*real_ct.structures(1, 5, 6, 7, 20, 52, 63, 79, 86, 110), drawn("ring", 99, ring(real_ct))]
    rtstruct_writing.write(path, structures, real_ct.stack, about="autoseg test")
    for item, mask in zip(structures, painted(real_ct, path), strict=True):
        np.testing.assert_array_equal(mask, item.mask(), err_msg=item.name)


def test_the_polygons_themselves_have_the_volume_and_the_centre(real_ct: RealCt, tmp_path: Path) -> None:
    """What a planning system computes from the points alone, without any voxel."""
    path = tmp_path / "rt.dcm"
    mask, grid = ring(real_ct), real_ct.stack.grid
    rtstruct_writing.write(path, [drawn("ring", 1, mask)], real_ct.stack, about="autoseg test")
    (found,) = rtstruct.read(path).rois
    areas, moments = [], []
    for points in found.contours:
        x, y = points[:, 0], points[:, 1]
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = abs(cross.sum()) / 2
        if abs(area - HOLE_MM2) < 0.05 * HOLE_MM2:
            area = -area
        centre = np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()])
        areas.append(area)
        moments.append(area * centre / (3 * cross.sum()))
    assert sum(areas) * 2.0 / 1000 == pytest.approx(mask.sum() * grid.voxel_ml(), rel=0.01)
    centre = np.sum(moments, axis=0) / sum(areas)
    np.testing.assert_allclose(centre, centroid_mm(mask, grid)[:2], atol=0.1)


def test_what_a_planning_system_needs_is_there(real_ct: RealCt, tmp_path: Path) -> None:
    path, first = tmp_path / "rt.dcm", real_ct.stack.slices[0]
    empty = drawn("nothing", 2, np.zeros(real_ct.stack.grid.shape, bool))
    rtstruct_writing.write(path, [*real_ct.structures(5), empty], real_ct.stack, about="autoseg test")
    data = pydicom.dcmread(path)
    assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3"
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (first.study, first.frame_of_reference)
    assert data.SeriesInstanceUID != first.series
    assert data.ApprovalStatus == "UNAPPROVED"
    assert data.PatientName == ""
    (frame,) = data.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == first.frame_of_reference
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == first.series
    assert [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence] == [
        item.instance for item in real_ct.stack.slices
    ]
    assert {item.ROIGenerationAlgorithm for item in data.StructureSetROISequence} == {"AUTOMATIC"}
    assert {item.ReferencedFrameOfReferenceUID for item in data.StructureSetROISequence} == {first.frame_of_reference}
    assert {item.RTROIInterpretedType for item in data.RTROIObservationsSequence} == {"ORGAN"}
    places = {item.instance: item.position_mm for item in real_ct.stack.slices}
    for contour in data.ROIContourSequence[0].ContourSequence:
        instance = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert contour.NumberOfContourPoints == len(contour.ContourData) / 3
        assert contour.ContourData[2] == pytest.approx(places[instance][2], abs=1e-3)
    assert "ContourSequence" not in data.ROIContourSequence[1]


def test_the_same_structures_give_the_same_bytes(real_ct: RealCt, tmp_path: Path) -> None:
    for name in ("a", "b"):
        rtstruct_writing.write(tmp_path / name, real_ct.structures(5), real_ct.stack, about="autoseg test")
    rtstruct_writing.write(tmp_path / "c", real_ct.structures(6), real_ct.stack, about="autoseg test")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert rtstruct.read(tmp_path / "a").series == rtstruct.read(tmp_path / "c").series
    assert pydicom.dcmread(tmp_path / "a").SOPInstanceUID != pydicom.dcmread(tmp_path / "c").SOPInstanceUID


def test_rt_utils_reads_what_we_write(real_ct: RealCt, tmp_path: Path) -> None:
    rt_utils = pytest.importorskip("rt_utils")
    path = tmp_path / "rt.dcm"
    structures = [*real_ct.structures(5, 6, 7, 52), drawn("ring", 99, ring(real_ct))]
    rtstruct_writing.write(path, structures, real_ct.stack, about="autoseg test")
    oracle = rt_utils.RTStructBuilder.create_from(str(real_ct.folder), str(path))
    for item in structures:
        found = oracle.get_roi_mask_by_name(item.name).transpose(2, 0, 1)
        agrees(found, item.mask(), real_ct.stack.grid, item.name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_we_read_what_rt_utils_writes(real_ct: RealCt, tmp_path: Path) -> None:
    """OpenCV draws through the centres of the outermost voxels; holes and pieces come back as well."""
    rt_utils = pytest.importorskip("rt_utils")
    builder = rt_utils.RTStructBuilder.create_new(dicom_series_path=str(real_ct.folder))
    structures = [*real_ct.structures(5, 6, 7, 20), drawn("ring", 99, ring(real_ct))]
    for item in structures:
        builder.add_roi(mask=item.mask().transpose(1, 2, 0), name=item.name)
    builder.save(str(tmp_path / "rt"))
    for item, mask in zip(structures, painted(real_ct, tmp_path / "rt.dcm"), strict=True):
        agrees(mask, item.mask(), real_ct.stack.grid, item.name)


def agrees(found: np.ndarray, truth: np.ndarray, grid: Grid, name: str) -> None:
    assert found.sum() == pytest.approx(truth.sum(), rel=0.01), name
    np.testing.assert_allclose(centroid_mm(found, grid), centroid_mm(truth, grid), atol=0.1, err_msg=name)
    assert hd95_pixels(found, truth) <= 1.0, name


def test_holes_are_even_odd_in_patient_coordinates() -> None:
    mask, notes = rtstruct.mask(roi(square(0.5, 8.5, 2), square(2.5, 5.5, 2)), GRID, file=Path("x"))
    assert mask.sum(axis=(1, 2)).tolist() == [0, 0, 64 - 9, 0]
    assert notes == ()


@pytest.mark.parametrize(
    ("contours", "slices", "words"),
    [
        ((square(0.5, 3.5, 0), square(0.5, 3.5, 2)), [9, 0, 9, 0], "1 slices between its first and last have no"),
        ((square(0.5, 3.5, 1), square(0.5, 3.5, 7)), [0, 9, 0, 0], "1 contours lie beyond the first or last"),
        ((square(0.5, 3.5, 1.3),), [0, 9, 0, 0], "1 contours lie between two slices"),
        ((square(0.5, 3.5, 1), square(0.5, 2.5, 1.3)), [0, 9, 0, 0], "share a slice with others"),
        ((square(0.5, 3.5, 1), square(2.5, 5.5, 1)), [0, 17, 0, 0], "1 contours cross another one"),
        ((square(0.5, 3.5, 1), square(4.2, 4.6, 2)), [0, 9, 0, 0], "on 1 of 2 slices it encloses no voxel centre"),
    ],
)
def test_oddities_are_said(contours: tuple[np.ndarray, ...], slices: list[int], words: str) -> None:
    mask, notes = rtstruct.mask(roi(*contours), GRID, file=Path("x"))
    assert mask.sum(axis=(1, 2)).tolist() == slices
    assert any(words in note for note in notes), notes


def test_oblique_and_distant_contours_are_refused() -> None:
    leaning = square(0.5, 8.5, 1) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 2.0], [0, 0, 2.0]])
    with pytest.raises(DataError, match="not parallel to the slices"):
        rtstruct.mask(roi(leaning), GRID, file=Path("x"))
    with pytest.raises(DataError, match="lies outside of the image"):
        rtstruct.mask(roi(square(0.5, 3.5, 90)), GRID, file=Path("x"))


def structure_set(path: Path, *rois: tuple[str, list[tuple[str, np.ndarray]]], frame: str = "1.2.3.9") -> Path:
    """Write an RTSTRUCT with pydicom alone: (name, [(kind, points in mm)])."""
    data = Dataset()
    data.Modality, data.SOPInstanceUID, data.PatientName = "RTSTRUCT", "1.2.8", "Doe^Jane"
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois, start=1):
        head, body = Dataset(), Dataset()
        head.ROINumber, head.ROIName, head.ReferencedFrameOfReferenceUID = number, name, frame
        body.ReferencedROINumber, body.ContourSequence = number, [contour(*item) for item in contours]
        data.StructureSetROISequence.append(head)
        data.ROIContourSequence.append(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    data.save_as(path, enforce_file_format=True)
    return path


def contour(kind: str, points: np.ndarray) -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{value:.3f}" for value in np.ravel(points)]
    return item


def test_points_lines_and_scraps_are_passed_over_and_said(tmp_path: Path) -> None:
    """F43."""
    good = square(0.5, 3.5, 1)
    rois = [("Heart", [("POINT", good[:1]), ("CLOSED_PLANAR", good[:2]), ("CLOSED_PLANAR", good)]), ("Iso", [])]
    found = rtstruct.read(structure_set(tmp_path / "rt", *rois))
    assert [len(item.contours) for item in found.rois] == [1, 0]
    assert found.rois[0].notes == (
        "ROI 'Heart': 1 POINT contours enclose nothing and were passed over",
        "ROI 'Heart': 1 contours with fewer than 3 points were passed over",
    )


@pytest.mark.parametrize(
    ("part", "frame", "words"),
    [
        (1, "1.2.3.9", ""),
        (7, "1.2.3.9", "has no contours of ROI 7; there are 1, 2"),
        (2, "1.2.3.9", "has no contours of ROI 2"),
        (1, "1.2.3.10", "ROI 'Heart' lies in the frame of reference 1.2.3.9, the image in 1.2.3.10"),
    ],
)
def test_labels_come_through_the_door_of_all_labels(tmp_path: Path, part: int, frame: str, words: str) -> None:
    path = structure_set(tmp_path / "rt", ("Heart", [("CLOSED_PLANAR", square(0.5, 3.5, 1))]), ("Iso", []))
    source = RtstructSource(rois=(DicomPart(path=str(path), number=part, value=1),), frame_of_reference=frame)
    labels = Labels(structures=(Structure(name="Heart", value=1, original=1),))
    if not words:
        assert read_labels(source, labels, GRID, case="a").array.sum() == 9
        return
    with pytest.raises(DataError, match=words) as error:
        read_labels(source, labels, GRID, case="a")
    assert error.value.case == "a"


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 20, b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_damaged_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        rtstruct.read(path)
    assert str(path) in str(error.value)
