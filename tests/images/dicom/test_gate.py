"""F42, F93: what SimpleITK reads silently as another geometry is refused by name, left out and said, or put right."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from autoseg.images.dicom import facts, finding, series, uids
from autoseg.images.dicom.facts import read_facts
from autoseg.images.dicom.gate import build
from autoseg.records.dataset import DicomSource
from autoseg.records.errors import DataError
from tests.images.dicom import writers
from tests.images.dicom.conftest import RealCt


def source(folder: Path) -> DicomSource:
    return DicomSource(paths=tuple(str(path) for path in folder.iterdir()))


def copy(real_ct: RealCt, folder: Path, *, leave: tuple[int, ...] = ()) -> list[Path]:
    """Copy the real slices but for some, and return the copies in order along the patient."""
    folder.mkdir()
    paths = [item.path for place, item in enumerate(real_ct.stack.slices) if place not in leave]
    return [Path(shutil.copy(path, folder)) for path in paths]


def change(path: Path, target: Path | None = None, **tags: object) -> Path:
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(target or path)
    return target or path


def test_a_series_is_read_in_patient_order_with_each_rescale(tmp_path: Path) -> None:
    array = writers.volume()
    writers.series(tmp_path, array)
    read, header = series.read(source(tmp_path))
    np.testing.assert_array_equal(read, array)
    assert header.grid.spacing_mm == (2.0, 1.5, 0.5)
    assert header.grid.origin_mm == (-10.0, -20.0, 30.0)
    assert read.dtype == np.float32
    assert not header.notes


def test_the_real_series_is_what_simpleitk_reads(real_ct: RealCt) -> None:
    read, header = series.read(source(real_ct.folder))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(item.path) for item in real_ct.stack.slices])
    oracle = reader.Execute()
    np.testing.assert_array_equal(read, SimpleITK.GetArrayFromImage(oracle))
    assert header.grid.origin_mm == pytest.approx(oracle.GetOrigin())
    assert header.grid.spacing_mm == pytest.approx(oracle.GetSpacing()[::-1])


@pytest.mark.parametrize("orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_any_orientation_keeps_every_voxel_at_its_place(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    array, folder = writers.volume(), tmp_path / "series"
    row, column = np.reshape(orientation, (2, 3)).astype(float)
    normal = np.cross(row, column)
    for z, picture in enumerate(array):
        position = np.array([3.0, 5.0, 7.0]) + 2.5 * z * normal
        writers.slice_file(
            folder / f"{9 - z}", picture, uid=f"1.{z + 1}", position=position, ImageOrientationPatient=list(orientation)
        )
    read, header = series.read(source(folder))
    z, y, x = 4, 7, 11
    place = np.array([3.0, 5.0, 7.0]) + 2.5 * z * normal + 1.5 * y * column + 0.5 * x * row
    index = np.linalg.inv(header.grid.affine()) @ (*place, 1.0)
    assert index[:3] == pytest.approx((z, y, x), abs=1e-6)
    assert read[z, y, x] == array[z, y, x]


def test_missing_slices_are_named_by_their_neighbours(real_ct: RealCt, tmp_path: Path) -> None:
    kept = copy(real_ct, tmp_path / "a", leave=(7, 8, 9))
    with pytest.raises(DataError, match="3 slices are missing, with steps of 2 mm") as error:
        series.read(source(tmp_path / "a"))
    assert kept[6].name in str(error.value)
    assert kept[7].name in str(error.value)


def test_a_scout_is_left_out_and_said(real_ct: RealCt, tmp_path: Path) -> None:
    kept = copy(real_ct, tmp_path / "a")
    change(kept[3], tmp_path / "a" / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SOPInstanceUID="1.7",
           ImagePositionPatient=[0, 0, 500])  # fmt: skip
    change(kept[3], tmp_path / "a" / "coronal", ImageOrientationPatient=[1, 0, 0, 0, 0, -1], SOPInstanceUID="1.8")
    read, header = series.read(source(tmp_path / "a"))
    assert read.shape == (20, 512, 512)
    assert header.grid == real_ct.stack.grid
    assert [note.split(": ")[1] for note in header.notes] == ["scout", "another orientation or size than the stack"]
    assert "scout" in header.notes[0]
    assert "coronal" in header.notes[1]


def test_two_series_in_one_folder_are_two_scans(real_ct: RealCt, tmp_path: Path) -> None:
    copy(real_ct, tmp_path / "a")
    (tmp_path / "a" / "b").mkdir()
    for place, item in enumerate(real_ct.stack.slices[:5]):
        change(item.path, tmp_path / "a" / "b" / f"{place}", SeriesInstanceUID="1.2.77", SOPInstanceUID=f"1.77.{place}")
    (tmp_path / "a" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = finding.find(tmp_path / "a")
    assert sorted(len(item.slices) for item in found.series) == [5, 20]
    assert len({item.name() for item in found.series}) == 2
    assert found.notes == ()


def test_a_tilted_gantry_is_set_upright_and_said(real_ct: RealCt, tmp_path: Path) -> None:
    """The real slices, pushed along y as a tilt of 15 degrees does, come back to where they were, within the pixel."""
    folder, shear = tmp_path / "a", 2.0 * math.tan(math.radians(15))
    folder.mkdir()
    upright, _ = series.read(source(real_ct.folder))
    dy = 0.9765625
    for z, item in enumerate(real_ct.stack.slices):
        data = pydicom.dcmread(item.path)
        whole = round(shear * z / dy)  # the picture moves by whole pixels, the header by the exact drift
        stored = data.pixel_array
        data.decompress()
        data.PixelData = np.roll(stored, -whole, axis=0).tobytes()
        x, y, height = (float(value) for value in data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y + shear * z, height]
        data.save_as(folder / f"{z}")
    read, header = series.read(source(folder))
    assert "tilted by 15.0 degrees" in header.notes[0]
    assert header.grid.shape == (20, 512 + math.ceil(shear * 19 / dy), 512)
    rows = slice(100, 400)
    body = upright[:, rows] > -200
    agreement = (body == (read[:, rows] > -200)).mean()
    assert agreement > 0.985
    shifted = np.roll(read, 2, axis=1)[:, rows]
    assert agreement > (body == (shifted > -200)).mean()


def test_a_copy_of_a_slice_is_dropped_but_another_picture_there_is_refused(tmp_path: Path) -> None:
    first = writers.series(tmp_path / "a", writers.volume())[0]
    shutil.copy(first, tmp_path / "a" / "again")
    _, header = series.read(source(tmp_path / "a"))
    assert "a copy of another slice" in header.notes[0]
    other = pydicom.dcmread(first)
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "a" / "again")
    with pytest.raises(DataError, match="1 places have more than one slice") as error:
        series.read(source(tmp_path / "a"))
    assert error.value.code == "duplicate_slice"
    assert "again" in str(error.value)


def test_uneven_steps_and_a_slice_beside_the_others_are_refused(tmp_path: Path) -> None:
    paths = writers.series(tmp_path / "a", writers.volume((5, 4, 4)))
    places = [-10.0, -20.0, 30.0 + 2.0 * 2 + 0.7]
    middle = next(path for path in paths if read_facts(path).position_mm == (-10.0, -20.0, 34.0))
    change(middle, ImagePositionPatient=places)
    with pytest.raises(DataError, match=r"vary from 1.3 to 2.7 mm"):
        series.read_stack(source(tmp_path / "a"))
    change(middle, ImagePositionPatient=[-10.0, -14.0, 34.0])
    with pytest.raises(DataError, match=r"4\.0 pixels beside the line"):
        series.read_stack(source(tmp_path / "a"))


def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path) -> None:
    for z in range(12):
        place = (0.0, 0.0, round(0.625 * z, 1))
        writers.slice_file(tmp_path / f"{z}", np.zeros((4, 4)), uid=f"1.{z + 1}", position=place)
    assert series.read_stack(source(tmp_path)).grid.spacing_mm[0] == pytest.approx(0.625, rel=0.02)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 3}, "3 frames in one file"),
        ({"SamplesPerPixel": 3}, "colour picture"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient missing"),
        ({"PixelSpacing": [1.0, 1.0]}, "has pixels of"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no valid orientation"),
    ],
)
def test_odd_slices_are_named(tmp_path: Path, tags: dict[str, object], words: str) -> None:
    every = "Orientation" in str(tags)
    writers.series(tmp_path, writers.volume((3, 4, 4)), **(tags if every else {}))
    if not every:
        writers.slice_file(tmp_path / "odd", np.zeros((4, 4)), uid="1.5", **({"position": (-10, -20, 36)} | tags))
    with pytest.raises(DataError, match=words) as error:
        series.read(source(tmp_path))
    assert every or "odd" in str(error.value)


def test_one_slice_takes_its_thickness(tmp_path: Path) -> None:
    writers.series(tmp_path, writers.volume((1, 4, 4)))
    assert series.read_stack(source(tmp_path)).grid.spacing_mm == (2.0, 1.5, 0.5)
    writers.series(tmp_path, writers.volume((1, 4, 4)), SliceThickness=None)
    with pytest.raises(DataError, match="neither SliceThickness nor a second slice"):
        series.read_stack(source(tmp_path))


def test_damaged_voxels_are_one_sentence(tmp_path: Path) -> None:
    path = writers.series(tmp_path, writers.volume((2, 32, 32)))[0]
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match="damaged or cut short") as error:
        series.read(source(tmp_path))
    assert error.value.file == str(path)


def test_a_compression_that_nobody_reads_is_named(tmp_path: Path) -> None:
    path = writers.series(tmp_path, writers.volume((1, 8, 8)))[0]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    with pytest.raises(DataError, match=r"stored as High-Throughput JPEG 2000"):
        series.read(source(tmp_path))


def test_empty_uids_are_read_by_position_and_said(real_series: Path) -> None:
    """F93."""
    found = finding.find(real_series)
    (only,) = found.series
    assert only.lacks_uids
    assert "empty UIDs; 20 files were put together by orientation and position" in found.notes[0]
    stack = build(only.slices)
    assert stack.grid.shape == (20, 512, 512)
    with pytest.raises(DataError, match="has no StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID") as error:
        uids.require_uids(stack)
    assert "--new-uids" in str(error.value)


def test_new_uids_are_consistent_and_the_same_again(real_ct: RealCt, real_series: Path, tmp_path: Path) -> None:
    (found,) = finding.find(real_series).series
    again = uids.with_new_uids(build(found.slices), tmp_path)
    slices = real_ct.stack.slices
    assert [item.instance for item in again.slices] == [item.instance for item in slices]
    assert len({item.instance for item in slices}) == 20
    assert len({(item.study, item.series, item.frame_of_reference) for item in slices}) == 1
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [item.path.read_bytes() for item in slices]
    (read,) = finding.find(tmp_path).series
    assert not read.lacks_uids


def test_new_uids_differ_where_the_pictures_differ(tmp_path: Path) -> None:
    """Two patients whose headers were emptied alike."""
    made = set()
    for number in range(2):
        writers.series(tmp_path / str(number), writers.volume(seed=number), StudyInstanceUID="", SeriesInstanceUID="")
        (found,) = finding.find(tmp_path / str(number)).series
        made.add(uids.with_new_uids(build(found.slices), tmp_path / f"{number}_new").slices[0].series)
    assert len(made) == 2


def test_no_name_of_a_person_is_read_or_told(tmp_path: Path) -> None:
    """F91: neither in what is kept of a header, nor in ids, nor in a copy."""
    paths = writers.series(tmp_path / "a", writers.volume((3, 4, 4)))
    found = finding.find(tmp_path / "a")
    (item,) = found.series
    told = f"{item} {item.name()} {item.study_name()} {found.notes}"
    assert "Doe" not in told
    assert "12345" not in told
    assert item.patient_key == facts.pseudonym("12345") == facts.pseudonym(" 12345 ")
    copies = uids.with_new_uids(build(item.slices), tmp_path / "b").slices
    assert all(b"Doe" not in part.path.read_bytes() for part in copies)
    assert all(b"Doe" in path.read_bytes() for path in paths)
