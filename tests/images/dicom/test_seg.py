"""DICOM SEG there and back; a foreign file; highdicom as the oracle."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from autoseg.images import files
from autoseg.images.dicom import finding, seg, seg_writing, series
from autoseg.records.dataset import DicomPart, DicomSegSource, DicomSource
from autoseg.records.errors import DataError, ResourceError
from tests.images.dicom.conftest import RealCt, drawn


def whole(path: Path, frame: str = "") -> DicomSegSource:
    """Every segment of a file, standing for its own number."""
    parts = tuple(DicomPart(path=str(path), number=s.number, value=s.number) for s in seg.read(path).segments)
    return DicomSegSource(segments=parts, frame_of_reference=frame)


def numbers(real_ct: RealCt) -> np.ndarray:
    """The labels with 1, 2, 3 ... in the order of their values."""
    return np.searchsorted(np.unique(real_ct.labels), real_ct.labels).astype(np.uint8)


@pytest.mark.parametrize("binary", [False, True])
def test_a_segmentation_comes_back_as_it_was(real_ct: RealCt, tmp_path: Path, binary: bool) -> None:
    pytest.importorskip("highdicom")
    path, frame = tmp_path / "seg.dcm", real_ct.stack.slices[0].frame_of_reference
    seg_writing.write(path, real_ct.structures(), real_ct.stack, about="autoseg test", binary=binary)
    array = seg.paint(whole(path, frame), real_ct.stack.grid, dtype=np.uint8)
    np.testing.assert_array_equal(array, numbers(real_ct))
    assert seg.read(path).kind == ("BINARY" if binary else "LABELMAP")
    counts = np.bincount(array.ravel())
    assert seg.sizes(path) == dict(enumerate(counts.tolist()[1:], start=1))


@pytest.mark.parametrize("binary", [False, True])
def test_highdicom_reads_the_same_voxels_at_the_same_places(real_ct: RealCt, tmp_path: Path, binary: bool) -> None:
    highdicom = pytest.importorskip("highdicom")
    path = tmp_path / "seg.dcm"
    seg_writing.write(path, real_ct.structures(), real_ct.stack, about="autoseg test", binary=binary)
    read = highdicom.seg.segread(path)
    images = [item.instance for item in real_ct.stack.slices]
    array = read.get_pixels_by_source_instance(images, combine_segments=True)
    np.testing.assert_array_equal(array, numbers(real_ct))
    volume = read.get_volume(combine_segments=True)  # in highdicom's own order: through its affine to ours
    place = np.argwhere(volume.array == 5)[0]
    patient = volume.affine @ (*place, 1.0)
    z, y, x = np.rint((np.linalg.inv(real_ct.stack.grid.affine()) @ patient)[:3]).astype(int)
    assert numbers(real_ct)[z, y, x] == 5


def test_a_segmentation_says_what_it_is(real_ct: RealCt, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    path, first = tmp_path / "seg.dcm", real_ct.stack.slices[0]
    liver, other = real_ct.structures(5, 6)
    structures = [drawn("Liver", 1, liver.mask()), drawn("gizmo", 2, other.mask())]
    seg_writing.write(path, structures, real_ct.stack, about="autoseg test")
    data = pydicom.dcmread(path)
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (first.study, first.frame_of_reference)
    assert data.PatientName == ""
    assert [item.SegmentLabel for item in data.SegmentSequence if item.SegmentNumber] == ["Liver", "gizmo"]
    codes = [item.SegmentedPropertyTypeCodeSequence[0] for item in data.SegmentSequence if item.SegmentNumber]
    assert [(code.CodeValue, code.CodeMeaning) for code in codes] == [("10200004", "Liver"), ("85756007", "Tissue")]
    assert {item.SegmentAlgorithmType for item in data.SegmentSequence if item.SegmentNumber} == {"AUTOMATIC"}
    again = tmp_path / "again.dcm"
    seg_writing.write(again, structures, real_ct.stack, about="autoseg test")
    assert path.read_bytes() == again.read_bytes()


def test_structures_that_overlap_become_binary(real_ct: RealCt, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    one, two = np.zeros((2, *real_ct.stack.grid.shape), bool)
    one[3:6, 100:200, 100:200] = True
    two[5:8, 150:250, 150:250] = True
    path = tmp_path / "seg.dcm"
    seg_writing.write(path, [drawn("a", 1, one), drawn("b", 2, two)], real_ct.stack, about="autoseg test")
    assert seg.read(path).kind == "BINARY"
    for number, mask in ((1, one), (2, two)):
        part = DicomPart(path=str(path), number=number, value=1)
        read = seg.paint(DicomSegSource(segments=(part,)), real_ct.stack.grid, dtype=np.uint8)
        np.testing.assert_array_equal(read.astype(bool), mask)


def test_a_foreign_file_lies_where_its_nrrd_lies(real_data: Path) -> None:
    folder = real_data / "dicom_seg_liver"
    found = finding.find(folder)
    (path,), (scan,) = found.segmentations, found.series
    grid = series.read_header(DicomSource(paths=tuple(str(item.path) for item in scan.slices))).grid
    expected, theirs = files.read_volume(folder / "liver_seg.nrrd")
    assert grid.difference(theirs) is None
    np.testing.assert_array_equal(seg.paint(whole(path), grid, dtype=np.uint8), expected)
    assert [item.name for item in seg.read(path).segments] == ["Liver"]


def test_frames_go_by_position_whatever_way_the_image_runs(real_data: Path) -> None:
    """The same file on a grid that is cut and runs against z and y gives the same voxels, mirrored."""
    folder = real_data / "dicom_seg_liver"
    expected, grid = files.read_volume(folder / "liver_seg.nrrd")
    corner = grid.affine() @ (2.0, 511.0, 40.0, 1.0)
    turned = grid.model_copy(
        update={
            "shape": (3, 512, 400),
            "origin_mm": tuple(corner[:3]),
            "direction": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
        }
    )
    array = seg.paint(whole(folder / "liver.dcm"), turned, dtype=np.uint8)
    np.testing.assert_array_equal(array, expected[::-1, ::-1, 40:440])


def test_what_does_not_fit_is_refused(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "dicom_seg_liver" / "liver.dcm"
    _, grid = files.read_volume(path.with_name("liver_seg.nrrd"))
    off = grid.model_copy(update={"origin_mm": (*grid.origin_mm[:2], grid.origin_mm[2] + 0.4)})
    with pytest.raises(DataError, match="frame 1 does not lie on the voxels of the image"):
        seg.paint(whole(path), off, dtype=np.uint8)
    coarse = grid.model_copy(update={"spacing_mm": (1.0, 1.0, 1.0)})
    with pytest.raises(DataError, match="does not lie on the voxels"):
        seg.paint(whole(path), coarse, dtype=np.uint8)
    with pytest.raises(DataError, match="frame of reference"):
        seg.paint(whole(path, "1.2.3"), grid, dtype=np.uint8)
    wrong = DicomSegSource(segments=(DicomPart(path=str(path), number=4, value=1),))
    with pytest.raises(DataError, match="has no segment 4; there are 1"):
        seg.paint(wrong, grid, dtype=np.uint8)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="damaged segmentation"):
        seg.paint(whole(cut), grid, dtype=np.uint8)


def test_fractions_count_from_a_half(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "dicom_seg_liver" / "liver.dcm"
    expected, grid = files.read_volume(path.with_name("liver_seg.nrrd"))
    data = pydicom.dcmread(path)
    shares = np.where(data.pixel_array > 0, 130, 100).astype(np.uint8)
    data.SegmentationType, data.MaximumFractionalValue, data.BitsAllocated, data.BitsStored = "FRACTIONAL", 255, 8, 8
    data.HighBit, data.PixelData = 7, shares.tobytes()
    data.save_as(tmp_path / "f.dcm")
    np.testing.assert_array_equal(seg.paint(whole(tmp_path / "f.dcm"), grid, dtype=np.uint8), expected)


def test_without_highdicom_one_sentence_says_what_to_do(
    real_ct: RealCt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ResourceError, match=r"pip install 'autoseg\[dicom\]'"):
        seg_writing.write(tmp_path / "s.dcm", real_ct.structures(5), real_ct.stack, about="")


def test_an_empty_character_set_of_the_images_means_the_default(real_ct: RealCt, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    paths = []
    for item in real_ct.stack.slices:
        data = pydicom.dcmread(item.path)
        data.SpecificCharacterSet = ""
        paths.append(tmp_path / Path(item.path).name)
        data.save_as(paths[-1])
    slices = tuple(replace(item, path=path) for item, path in zip(real_ct.stack.slices, paths, strict=True))
    stack = replace(real_ct.stack, slices=slices)
    seg_writing.write(tmp_path / "seg.dcm", real_ct.structures(5), stack, about="autoseg test")
    np.testing.assert_array_equal(
        seg.paint(whole(tmp_path / "seg.dcm"), stack.grid, dtype=np.uint8), real_ct.labels == 5
    )
