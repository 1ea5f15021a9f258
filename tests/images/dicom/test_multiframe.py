"""Enhanced multi-frame CT and MR: geometry and rescaling come from the functional groups of each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from autoseg.images.dicom import finding, rtstruct, rtstruct_writing, seg, seg_writing, series, uids
from autoseg.images.dicom.facts import read_facts
from autoseg.records.dataset import DicomPart, DicomSegSource, DicomSource
from autoseg.records.errors import DataError
from tests.images.dicom import enhanced, writers
from tests.images.dicom.conftest import RealCt, drawn


def source(path: Path) -> DicomSource:
    return DicomSource(paths=(str(path),))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_frames_are_put_in_patient_order(tmp_path: Path, modality: str) -> None:
    array = writers.volume()
    read, header = series.read(source(enhanced.stack(tmp_path / "one.dcm", array, modality=modality)))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.float32
    assert header.grid.spacing_mm == (2.0, 1.5, 0.5)
    assert header.grid.origin_mm == (-10.0, -20.0, 30.0)
    assert header.notes == ()


def test_it_is_the_volume_of_the_same_slices_in_files(tmp_path: Path) -> None:
    array = writers.volume()
    writers.series(tmp_path / "slices", array)
    files = tuple(str(path) for path in (tmp_path / "slices").iterdir())
    single, header = series.read(DicomSource(paths=files))
    read, mine = series.read(source(enhanced.stack(tmp_path / "one.dcm", array)))
    np.testing.assert_array_equal(read, single)
    assert mine.grid.difference(header.grid) is None


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    array = 4.0 * np.random.default_rng(0).integers(-200, 200, (4, 6, 8))
    path = enhanced.stack(tmp_path / "one.dcm", array, modality="MR", slopes=[1.0, 2.0, 4.0, 0.5])
    np.testing.assert_array_equal(series.read(source(path))[0], array)


def test_real_ct_as_one_file(real_ct: RealCt, tmp_path: Path) -> None:
    paths = tuple(str(item.path) for item in real_ct.stack.slices)
    single, header = series.read(DicomSource(paths=paths))
    first = pydicom.dcmread(paths[0])
    positions = [item.position_mm for item in real_ct.stack.slices]
    path = enhanced.file(
        tmp_path / "one.dcm", single[:, ::2, ::2], positions, orientation=first.ImageOrientationPatient
    )  # type: ignore[arg-type]
    read, mine = series.read(source(path))
    np.testing.assert_allclose(read, single[:, ::2, ::2], atol=1)  # stored in steps of 2
    assert mine.grid.spacing_mm[0] == pytest.approx(header.grid.spacing_mm[0])
    assert mine.grid.origin_mm == pytest.approx(header.grid.origin_mm)


def test_one_frame_alone_counts_too(tmp_path: Path) -> None:
    path = enhanced.stack(tmp_path / "one.dcm", writers.volume((1, 6, 8)))
    (found,) = finding.find(tmp_path).series
    assert series.read_header(found.source).grid.shape == (1, 6, 8)
    assert series.read_header(source(path)).grid.spacing_mm[0] == 2.0


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    array, places = writers.volume((5, 6, 8)), (0, 1, 2, 4, 5)
    path = enhanced.file(tmp_path / "one.dcm", array, [(0.0, 0.0, 2.0 * place) for place in places])
    with pytest.raises(DataError, match=r"1 slices are missing.*one.dcm frame 3.*one.dcm frame 4"):
        series.read_header(source(path))


def test_two_echoes_in_one_file_are_refused_and_a_repeated_frame_is_not(tmp_path: Path) -> None:
    array = writers.volume((4, 6, 8))
    positions = [(0.0, 0.0, 2.0 * z) for z in range(4)]
    path = enhanced.file(tmp_path / "echoes.dcm", np.concatenate([array, array + 2]), positions * 2)
    with pytest.raises(DataError, match=r"4 places have more than one slice.*several phases, echoes or times"):
        series.read_header(source(path))
    path = enhanced.file(tmp_path / "twice.dcm", np.concatenate([array, array[:1]]), [*positions, positions[0]])
    read, header = series.read(source(path))
    np.testing.assert_array_equal(read, array)
    assert "a copy of another slice" in header.notes[0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: delattr(data, "PerFrameFunctionalGroupsSequence"), "does not say where they lie"),
        (lambda data: data.PerFrameFunctionalGroupsSequence.pop(), "says where 5 lie"),
        (lambda data: delattr(data.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"), "does not say where"),
    ],
)
def test_frames_without_a_place_are_refused(tmp_path: Path, spoil: object, words: str) -> None:
    path = enhanced.stack(tmp_path / "one.dcm", writers.volume())
    data = pydicom.dcmread(path)
    spoil(data)  # type: ignore[operator]
    data.save_as(path)
    with pytest.raises(DataError, match=words) as caught:
        series.read_header(source(path))
    assert caught.value.code == "no_slice"


def test_cut_voxels_are_an_error(tmp_path: Path) -> None:
    path = enhanced.stack(tmp_path / "one.dcm", writers.volume())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError):
        series.read(source(path))


def masks() -> np.ndarray:
    labels = np.zeros((6, 12, 16), np.uint8)
    labels[1:3, 2:8, 3:9] = 1
    labels[4, 5:9, 4:12] = 2
    return labels


@pytest.mark.parametrize("binary", [False, True])
def test_seg_on_frames_comes_back(tmp_path: Path, binary: bool) -> None:
    stack = series.read_stack(source(enhanced.stack(tmp_path / "one.dcm", writers.volume())))
    labels, out = masks(), tmp_path / "out.dcm"
    seg_writing.write(out, [drawn(f"s{n}", n, labels == n) for n in (1, 2)], stack, about="test", binary=binary)
    parts = tuple(DicomPart(path=str(out), number=n, value=n) for n in (1, 2))
    found = seg.paint(DicomSegSource(segments=parts), stack.grid, dtype=np.dtype(np.uint8))
    np.testing.assert_array_equal(found, labels)
    instances = [
        item.ReferencedSOPInstanceUID
        for item in pydicom.dcmread(out).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ]
    assert instances == [read_facts(tmp_path / "one.dcm").instance]


def test_rtstruct_on_frames_names_each_frame(tmp_path: Path) -> None:
    stack = series.read_stack(source(enhanced.stack(tmp_path / "one.dcm", writers.volume())))
    labels, out = masks(), tmp_path / "out.dcm"
    rtstruct_writing.write(out, [drawn("Liver", 1, labels == 1)], stack, about="test")
    (roi,) = rtstruct.read(out).rois
    mask, _ = rtstruct.mask(roi, stack.grid, file=out)
    np.testing.assert_array_equal(mask, labels == 1)
    contours = pydicom.dcmread(out).ROIContourSequence[0].ContourSequence
    frames = [item.ContourImageSequence[0].ReferencedFrameNumber for item in contours]
    assert frames == [stack.slices[z].frame for z in (1, 2)]


def test_no_copy_with_new_uids_is_made_of_frames(tmp_path: Path) -> None:
    stack = series.read_stack(source(enhanced.stack(tmp_path / "one.dcm", writers.volume())))
    with pytest.raises(DataError, match="multi-frame file"):
        uids.require_single_frames(stack)
