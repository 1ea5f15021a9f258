"""Every output format: what is written is what was predicted, overlaps included, and a second run finds it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image as Picture

from autoseg.images import files, segments, slices
from autoseg.records.dataset import Case, FileSource, SlicesSource
from autoseg.records.errors import DataError, UsageError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.predicting import outputs
from autoseg.stages.predicting.outputs import Segmentation
from autoseg.stages.predicting.outputs.segmentation import file_names

TURNED = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
GRID = Grid(shape=(3, 4, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-12.0, 4.5, 30.0), direction=TURNED)
LABELS = Labels(
    structures=(Structure(name="left kidney", value=1, original=3), Structure(name="µ/b", value=2, original=9))
)
REGIONS = Labels(
    structures=tuple(Structure(name=name, value=n, original=n) for n, name in enumerate(("a", "b", "both"), start=1)),
    regions=(Region(name="A", values=(1, 3), original=1), Region(name="B", values=(2, 3), original=2)),
)
OVERLAP = {"A": (slice(0, 2), slice(1, 3), slice(1, 4)), "B": (slice(1, 3), slice(2, 4), slice(2, 5))}


def plain(path: str = "scan.nii.gz", shape: tuple[int, int, int] = (3, 4, 5)) -> Segmentation:
    array = np.zeros(shape, np.uint8)
    array[0, 1:3, 1:3] = 3
    array[-1, 3, 4] = 9
    scan = Case(id="p.1", group="p.1", images={"CT": FileSource(path=path)})
    return Segmentation(scan, LabelMap(array, GRID.model_copy(update={"shape": shape})), LABELS, "autoseg")


def overlapping() -> Segmentation:
    """Two boxes that share voxels; the label map shows the later one there."""
    bits, painted = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    for place, box in enumerate(OVERLAP.values()):
        bits[box] |= np.uint8(1 << place)
        painted[box] = place + 1
    scan = Case(id="x", group="x", images={"MR": FileSource(path="x.nii.gz")})
    return Segmentation(scan, LabelMap(painted, GRID), REGIONS, "autoseg", bits)


def box_of(name: str) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[OVERLAP[name]] = True
    return mask


@pytest.mark.parametrize(("name", "suffix"), [("nifti", ".nii.gz"), ("mha", ".mha"), ("nrrd", ".seg.nrrd")])
def test_volumes_come_back_on_their_grid(tmp_path: Path, name: str, suffix: str) -> None:
    (path,) = outputs.FORMATS[name].write(plain(), tmp_path / "p.1")
    assert path == tmp_path / f"p.1{suffix}"
    array, grid = files.read_volume(path)
    assert np.array_equal(array, plain().volume.array)
    assert GRID.difference(grid) is None


@pytest.mark.parametrize("name", sorted({*outputs.FORMATS} - {"tif", *outputs.DICOM}))
@pytest.mark.parametrize("make", [plain, overlapping])
def test_a_second_run_finds_what_is_whole(tmp_path: Path, name: str, make: object) -> None:
    segmentation: Segmentation = make()  # type: ignore[operator]
    source = tmp_path / "scan.nii.gz"
    files.write_volume(source, np.zeros(GRID.shape, np.float32), GRID)
    scan = segmentation.scan.model_copy(update={"images": {"CT": FileSource(path=str(source))}})
    stem, form = tmp_path / "out" / scan.id, outputs.FORMATS[name]
    assert form.kept(scan, segmentation.labels, stem) == []
    written = form.write(Segmentation(scan, segmentation.volume, segmentation.labels, "", segmentation.regions), stem)
    before = {path: path.read_bytes() for path in written}
    assert form.kept(scan, segmentation.labels, stem) == written
    form.write(Segmentation(scan, segmentation.volume, segmentation.labels, "", segmentation.regions), stem)
    assert {path: path.read_bytes() for path in written} == before, "equal input gives equal bytes"
    written[-1].write_bytes(written[-1].read_bytes()[:-15])
    assert form.kept(scan, segmentation.labels, stem) == []


class TestSegNrrd:
    def test_names_colours_and_extents_are_said(self, tmp_path: Path) -> None:
        (path,) = outputs.FORMATS["nrrd"].write(plain(), tmp_path / "x")
        said = SimpleITK.ReadImage(str(path))
        assert said.GetMetaData("Segment0_Name") == "left kidney"
        assert said.GetMetaData("Segment1_Name") == "µ/b"
        assert said.GetMetaData("Segment0_LabelValue") == "3"
        assert said.GetMetaData("Segment0_Extent") == "1 2 1 2 0 0"
        assert said.GetMetaData("Segment0_Layer") == "0"
        red, green, blue = (float(part) for part in said.GetMetaData("Segment0_Color").split())
        assert all(0 <= part <= 1 for part in (red, green, blue))
        assert said.GetMetaData("Segment0_Color") != said.GetMetaData("Segment1_Color")
        assert said.GetMetaData("Segmentation_MasterRepresentation") == "Binary labelmap"

    def test_regions_that_overlap_lie_in_layers(self, tmp_path: Path) -> None:
        (path,) = outputs.FORMATS["nrrd"].write(overlapping(), tmp_path / "x")
        said = SimpleITK.ReadImage(str(path))
        assert [said.GetMetaData(f"Segment{n}_Layer") for n in (0, 1)] == ["0", "1"]
        for layer, name in enumerate("AB"):
            array, grid = files.read_volume(path, volume=layer)
            assert np.array_equal(array == layer + 1, box_of(name))
            assert GRID.difference(grid) is None

    def test_masks_that_do_not_touch_share_a_layer(self) -> None:
        masks = [np.zeros((1, 1, 4), bool) for _ in range(3)]
        masks[0][..., :2], masks[1][..., 1:3], masks[2][..., 3] = True, True, True
        layers, places = segments.stack(masks, [1, 2, 300])
        assert places == [0, 1, 0]
        assert layers[:, 0, 0].tolist() == [[1, 1, 0, 300], [0, 2, 2, 0]]

    def test_a_name_cannot_add_a_line(self) -> None:
        content = segments.encode(
            np.zeros((1, *GRID.shape), np.uint8), GRID, [segments.Segment("a\nsizes: 1 1 1", 1, (1, 2, 3))]
        )
        assert content.partition(b"\n\n")[0].count(b"\nsizes: ") == 1


class TestMasks:
    def test_one_file_a_region_holds_the_overlap(self, tmp_path: Path) -> None:
        written = outputs.FORMATS["masks"].write(overlapping(), tmp_path / "x")
        assert written == [tmp_path / "x" / "segmentations" / f"{name}.nii.gz" for name in "AB"]
        for path, name in zip(written, "AB", strict=True):
            assert np.array_equal(files.read_volume(path)[0] > 0, box_of(name))

    def test_names_become_safe_and_stay_distinct(self) -> None:
        names = ("a/b", "a b", "A_B", "../../etc", "...")
        labels = Labels(structures=tuple(Structure(name=n, value=i, original=i) for i, n in enumerate(names, start=1)))
        assert list(file_names(labels).values()) == ["a_b", "a_b_2", "A_B_3", "etc", "structure"]


class TestRunLengths:
    def rows(self, path: Path) -> list[list[str]]:
        return list(csv.reader(path.read_text().splitlines()))

    def test_worked_example(self, tmp_path: Path) -> None:
        """Pixels count from 1 along the rows: row 1 of 5 columns begins at 6."""
        (path,) = outputs.FORMATS["rle"].write(plain(), tmp_path / "p.1")
        rows = self.rows(path)
        assert rows[0] == ["id", "class", "predicted"]
        assert rows[1] == ["p.1_slice_0001", "left kidney", "7 2 12 2"]
        assert rows[2] == ["p.1_slice_0001", "µ/b", ""]
        assert rows[-1] == ["p.1_slice_0003", "µ/b", "20 1"]
        assert len(rows) == 1 + 3 * 2

    def test_decoding_gives_the_masks_overlap_and_all(self, tmp_path: Path) -> None:
        (path,) = outputs.FORMATS["rle"].write(overlapping(), tmp_path / "x")
        for name in "AB":
            texts = [row[2] for row in self.rows(path) if row[1] == name]
            planes = [slices.decode(text, GRID.shape[1:], file=path, id="") for text in texts]
            assert np.array_equal(np.stack(planes), box_of(name))

    def test_scans_share_one_table_and_replace_their_own_rows(self, tmp_path: Path) -> None:
        form, one = outputs.FORMATS["rle"], plain()
        (path,) = form.write(one, tmp_path / "p.1")
        other = Segmentation(one.scan.model_copy(update={"id": "q"}), one.volume, one.labels)
        form.write(other, tmp_path / "q")
        empty = LabelMap(np.zeros_like(one.volume.array), GRID)
        form.write(Segmentation(one.scan, empty, one.labels), tmp_path / "p.1")
        rows = self.rows(path)
        assert len(rows) == 1 + 2 * 6
        assert all(not row[2] for row in rows if row[0].startswith("p.1"))
        assert ["q_slice_0001", "left kidney", "7 2 12 2"] in rows

    def test_slices_keep_their_own_numbers(self, tmp_path: Path) -> None:
        source = SlicesSource(
            paths=tuple(f"/d/slice_{n:04d}_5_4_1.50_1.50.png" for n in (7, 8, 9)), spacing_mm=(3, 1.5, 1.5)
        )
        scan = Case(id="case1_day2", group="case1", images={"MR": source})
        (path,) = outputs.FORMATS["rle"].write(Segmentation(scan, plain().volume, LABELS), tmp_path / scan.id)
        assert self.rows(path)[1][0] == "case1_day2_slice_0007"


class TestPictures:
    def test_a_picture_becomes_one_picture(self, tmp_path: Path) -> None:
        (path,) = outputs.FORMATS["png"].write(plain("p.1.jpg", (1, 4, 5)), tmp_path / "p.1")
        assert path == tmp_path / "p.1.png"
        assert np.asarray(Picture.open(path)).max() == 9

    def test_sliced_scans_give_sliced_pictures_under_their_names(self, tmp_path: Path) -> None:
        paths = tuple(f"/d/slice_{n:04d}_5_4_1.50_1.50.png" for n in (1, 2, 3))
        source = SlicesSource(paths=paths, spacing_mm=(3, 1.5, 1.5))
        scan = Case(id="c", group="c", images={"MR": source})
        written = outputs.choose("auto", scan).write(Segmentation(scan, plain().volume, LABELS), tmp_path / "c")
        assert [path.name for path in written] == [Path(path).name for path in paths]
        assert np.asarray(Picture.open(written[0])).max() == 3

    def test_values_that_a_picture_cannot_hold_are_refused(self, tmp_path: Path) -> None:
        volume = LabelMap(np.full((1, 4, 5), 70000, np.int32), GRID.model_copy(update={"shape": (1, 4, 5)}))
        with pytest.raises(DataError, match="cannot hold int32 values from 70000"):
            outputs.FORMATS["png"].write(Segmentation(plain().scan, volume, LABELS), tmp_path / "a")


class TestChoice:
    @pytest.mark.parametrize(
        ("file", "auto", "usual"),
        [
            ("a.nii.gz", "nifti", "nifti"),
            ("a.nii", "nifti", "nifti"),
            ("a.nrrd", "nrrd", "nifti"),
            ("a.mha", "mha", "nifti"),
            ("a.PNG", "png", "png"),
            ("a.jpg", "png", "png"),
            ("a.tiff", "tif", "tif"),
        ],
    )
    def test_by_the_file_that_came_in(self, file: str, auto: str, usual: str) -> None:
        scan = plain(file).scan
        assert outputs.choose("auto", scan) is outputs.FORMATS[auto]
        assert outputs.choose(None, scan) is outputs.FORMATS[usual]
        assert outputs.choose("masks", scan) is outputs.FORMATS["masks"]

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(UsageError, match=r"no format 'dcm'.*There are auto, nifti, nrrd"):
            outputs.check_format("dcm")


def test_label_file_of_itk_snap(tmp_path: Path) -> None:
    text = outputs.write_label_file(tmp_path, LABELS).read_text()
    rows = [line.split(maxsplit=7) for line in text.splitlines() if not line.startswith("#")]
    assert [(row[0], row[7]) for row in rows] == [("0", '"Clear Label"'), ("3", '"left kidney"'), ("9", '"µ/b"')]
    assert all(0 <= int(part) <= 255 for row in rows for part in row[1:4])
