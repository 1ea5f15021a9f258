"""DICOM out: from typed command to a file that lies on the images; names of persons stay where they were."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest

from autoseg.images import files
from autoseg.images.dicom import finding, rtstruct, seg, series
from autoseg.records.dataset import Case, DicomPart, DicomSegSource, DicomSource, FileSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.predicting.outputs import FORMATS, Segmentation, choose
from tests.command_line import done, typed
from tests.conftest import WholeWay
from tests.images.dicom import writers

LABELS = Labels(
    structures=(Structure(name="kidney left", value=1, original=3), Structure(name="gizmo", value=2, original=9))
)
SHAPE = (6, 12, 16)


def array() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:9, 3:12] = 3
    labels[2, 4:6, 5:9] = 0
    labels[4, 7:11, 4:7] = 9
    return labels


def segmentation(folder: Path, **tags: object) -> Segmentation:
    shear = float(tags.pop("shear", 0.0))  # type: ignore[arg-type]
    writers.series(folder, writers.volume(SHAPE), shear=shear, **tags)
    (found,) = finding.find(folder).series
    scan = Case(id="p1_CT_2", group="p1", images={"CT": found.source})
    grid = series.read_header(found.source).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, : SHAPE[1]] = array()
    return Segmentation(scan, LabelMap(labels, grid), LABELS, "autoseg test")


def read_rtstruct(path: Path, grid: Grid) -> np.ndarray:
    result = np.zeros(grid.shape, np.uint8)
    for roi, value in zip(rtstruct.read(path).rois, (3, 9), strict=True):
        result[rtstruct.mask(roi, grid, file=path)[0]] = value
    return result


def read_seg(path: Path, grid: Grid) -> np.ndarray:
    parts = tuple(DicomPart(path=str(path), number=n, value=v) for n, v in ((1, 3), (2, 9)))
    return seg.paint(DicomSegSource(segments=parts), grid, dtype=np.uint8)


@pytest.mark.parametrize("name", ["dicom-seg", "dicom-seg-binary", "rtstruct"])
def test_what_is_written_lies_on_the_images(tmp_path: Path, name: str) -> None:
    pytest.importorskip("highdicom")
    item = segmentation(tmp_path / "in")
    form = FORMATS[name]
    form.require(item.scan, False)
    assert form.kept(item.scan, LABELS, tmp_path / "p.1") == []
    (path,) = form.write(item, tmp_path / "p.1")
    assert path.name.startswith("p.1.")
    assert form.kept(item.scan, LABELS, tmp_path / "p.1") == [path]
    read = read_rtstruct if name == "rtstruct" else read_seg
    np.testing.assert_array_equal(read(path, item.volume.grid), item.volume.array)
    content = path.read_bytes()
    assert b"Doe" not in content
    assert b"19500101" not in content
    assert pydicom.dcmread(path).PatientID == "12345"


def test_the_rtstruct_carries_tg263_names_and_the_seg_the_users(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    item = segmentation(tmp_path / "in")
    (one,), (other,) = (FORMATS[name].write(item, tmp_path / "x") for name in ("rtstruct", "dicom-seg"))
    assert [roi.name for roi in rtstruct.read(one).rois] == ["Kidney_L", "gizmo"]
    assert [part.name for part in seg.read(other).segments] == ["kidney left", "gizmo"]


def test_a_patient_id_can_be_hidden(tmp_path: Path) -> None:
    item = segmentation(tmp_path / "in")
    (path,) = FORMATS["rtstruct"].write(Segmentation(**(vars(item) | {"hide_patient_id": True})), tmp_path / "x")
    assert b"12345" not in path.read_bytes()
    assert len(pydicom.dcmread(path).PatientID) == 8
    both = {"hide_patient_id": True, "new_uids": True}
    (other,) = FORMATS["rtstruct"].write(Segmentation(**(vars(item) | both)), tmp_path / "y")
    copies = [*(tmp_path / "y_images").iterdir()]
    assert {pydicom.dcmread(file).PatientID for file in (path, other, *copies)} == {pydicom.dcmread(path).PatientID}
    assert all(b"12345" not in file.read_bytes() for file in (other, *copies))


@pytest.mark.parametrize("name", ["dicom-seg", "rtstruct"])
def test_a_tilted_scan_is_drawn_on_the_slices_as_stored(tmp_path: Path, name: str) -> None:
    """Structures of the upright volume go back to the leaning slices: the same place in the patient."""
    pytest.importorskip("highdicom")
    item = segmentation(tmp_path / "in", shear=0.75)  # half a pixel a slice
    assert item.volume.grid.shape[1] == SHAPE[1] + math.ceil(0.75 * 5 / 1.5)
    (path,) = FORMATS[name].write(item, tmp_path / "x")
    read = (read_rtstruct if name == "rtstruct" else read_seg)(path, item.volume.grid)
    if name == "rtstruct":
        np.testing.assert_array_equal(read, item.volume.array)
    else:  # whole pixels: nearest, at most half a pixel off
        assert (read > 0).sum() == (item.volume.array > 0).sum()
        centres = [np.argwhere(labels > 0).mean(axis=0) for labels in (read, item.volume.array)]
        np.testing.assert_allclose(*centres, atol=0.5)


@pytest.mark.parametrize("name", ["dicom-seg", "rtstruct"])
def test_empty_uids_are_refused_with_the_fix_and_made_on_request(tmp_path: Path, name: str) -> None:
    """F93."""
    pytest.importorskip("highdicom")
    empty = {"SeriesInstanceUID": "", "StudyInstanceUID": "", "SOPInstanceUID": ""}
    item = segmentation(tmp_path / "in", **{key: value for key, value in empty.items() if key != "SOPInstanceUID"})
    with pytest.raises(DataError, match="has no StudyInstanceUID, SeriesInstanceUID") as error:
        FORMATS[name].require(item.scan, False)
    assert "--new-uids" in str(error.value)
    FORMATS[name].require(item.scan, True)
    (path,) = FORMATS[name].write(Segmentation(**(vars(item) | {"new_uids": True})), tmp_path / "x")
    images = finding.find(tmp_path / "x_images")
    (copied,) = images.series
    assert images.notes == ()
    read = rtstruct.read(path) if name == "rtstruct" else seg.read(path)
    assert read.series == (copied.uid,) or {part.instance for part in copied.slices} >= read.instances - {""}
    np.testing.assert_array_equal(
        series.read(copied.source)[0],
        series.read(item.scan.images["CT"])[0],  # type: ignore[arg-type]
    )


def test_what_came_as_nifti_has_no_images_to_draw_on() -> None:
    scan = Case(id="a", group="a", images={"CT": FileSource(path="/x/a.nii.gz")})
    with pytest.raises(DataError, match="is no DICOM series") as error:
        choose("rtstruct", scan).require(scan, False)
    assert "--format nifti" in str(error.value)


def test_a_series_goes_in_and_comes_out_by_typed_commands(whole_way: WholeWay, tmp_path: Path) -> None:
    """As NIfTI where nothing is said, as DICOM where it is; a scan without UIDs fails alone, with exit code 4."""
    pytest.importorskip("highdicom")
    shape = (24, 40, 40)
    for number, study in enumerate(("1.2.1", "")):
        tags = {"Modality": "MR", "StudyInstanceUID": study, "PixelSpacing": [1.0, 1.0], "PatientID": f"M{number}"}
        uids = {"SeriesInstanceUID": study and f"{study}.1", "FrameOfReferenceUID": f"1.7.{number}"}
        writers.series(tmp_path / "in" / str(number), writers.volume(shape, number), step=1.0, **tags, **uids)
    arguments = ("predict", "-d", "Knot", "-i", tmp_path / "in", "--root", whole_way.root, "--json")
    plain = done(*arguments, "-o", tmp_path / "plain").json()
    assert len(plain) == 2
    assert all(Path(path).name.endswith(".nii.gz") for path in plain.values())
    outcome = typed(*arguments, "-o", tmp_path / "seg", "--format", "dicom-seg")
    assert outcome.code == 4
    assert "--new-uids" in outcome.said
    both = done(*arguments, "-o", tmp_path / "rt", "--format", "rtstruct", "--new-uids").json()
    for case, path in both.items():
        labels, grid = files.read_volume(Path(plain[case]))
        found = next(item for item in finding.find(tmp_path / "in").series if item.name() == case)
        source: DicomSource = found.source
        assert series.read_header(source).grid.difference(grid) is None
        drawn = np.zeros(grid.shape, bool)
        for roi in rtstruct.read(Path(path)).rois:
            drawn |= rtstruct.mask(roi, grid, file=Path(path))[0]
        np.testing.assert_array_equal(drawn, labels > 0)
