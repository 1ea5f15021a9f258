"""Layouts of data that nobody may pass on, written small as published, go the whole way and come back alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files, slices
from autoseg.images.dicom import rtstruct
from tests.command_line import done
from tests.conftest import measure_little
from tests.images.dicom.conftest import RealCt, real_ct, real_series  # noqa: F401
from tests.stages.importing import dicom, published, real_dicom, variants, writers

QUICK = ("--no-mirror", "--step", 1.0)
ORGANS = {"case_01": ("Brainstem", "Cochlea_L"), "case_02": ("Brainstem", "Cochlea_L"), "case_03": ("Brainstem",)}
SCANS = ("case1_day0", "case1_day20", "case2_day0")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


def trained(source: Path, folder: Path) -> tuple[object, ...]:
    """Import and train, and return the words that name the data set."""
    named = ("--root", folder / "workspace")
    done("import", source, "--as", "It", "--folds", 2, *named)
    done("run", "-d", "It", "--preset", "smoke", "--workers", 1, *named)
    return ("-d", "It", *named)


@pytest.mark.slow
def test_han_seg_two_grids_and_an_organ_that_was_not_annotated(tmp_path: Path) -> None:
    source = writers.hanseg(tmp_path / "HaN-Seg", ORGANS)
    named = trained(source, tmp_path)
    scan = source / "set_1" / "case_03"
    written = done("predict", *named, "-i", scan, "-o", tmp_path / "out", "--format", "auto", "--json", *QUICK).json()
    assert written == {"case_03": str(tmp_path / "out" / "case_03.seg.nrrd")}
    array, grid = files.read_volume(Path(written["case_03"]))
    image, wanted = files.read_volume(scan / "case_03_IMG_CT.nrrd")
    assert array.shape == image.shape
    assert wanted.difference(grid) is None
    assert set(np.unique(array)) <= {0, 1, 2}


@pytest.mark.slow
def test_uw_madison_with_classes_that_overlap(tmp_path: Path) -> None:
    source = variants.gi_tract_overlap(tmp_path / "uw", SCANS)
    named = trained(source, tmp_path)
    scans, out = source / "train", tmp_path / "out"
    written = done("predict", *named, "-i", scans, "-o", out, "--json", *QUICK).json()
    assert sorted(written) == sorted(SCANS)
    pictures = sorted(path.name for path in (out / "case2_day0").iterdir())
    assert pictures == sorted(path.name for path in (scans / "case2" / "case2_day0" / "scans").iterdir())
    done("predict", *named, "-i", scans, "-o", out, "--format", "masks", *QUICK)
    done("predict", *named, "-i", scans, "-o", out, "--format", "rle", *QUICK)
    table = out / "submission.csv"
    rows = list(slices.read_rows(table, text="predicted"))
    assert [row[:2] for row in rows[:3]] == [("case1_day0_slice_0001", name) for name in published.CLASSES]
    assert len(rows) == len(SCANS) * published.SLICES * len(published.CLASSES)
    for name in published.CLASSES:
        texts = [text for id, item, text in rows if item == name and id.startswith("case2_day0_")]
        planes = np.stack([slices.decode(text, published.SIZE, file=table, id="") for text in texts])
        mask = files.read_volume(out / "case2_day0" / "segmentations" / f"{name}.nii.gz")[0]
        assert np.array_equal(planes, mask > 0)


@pytest.mark.slow
def test_a_datalist_with_folds(tmp_path: Path) -> None:
    source = published.datalist(tmp_path / "study", ["a", "b", "c"])
    named = trained(source / "datalist.json", tmp_path)
    written = done("predict", *named, "-i", source / "images", "-o", tmp_path / "out", "--json", *QUICK).json()
    assert sorted(written) == ["a", "b", "c"]
    assert set(np.unique(files.read_volume(Path(written["a"]))[0])) <= {0, 1, 4}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_real_ct_with_contours_by_rt_utils(real_ct: RealCt, tmp_path: Path) -> None:  # noqa: F811
    """In as real CT with an RTSTRUCT of rt-utils, out as an RTSTRUCT that rt-utils reads on the same images."""
    rt_utils = pytest.importorskip("rt_utils")
    largest = np.argsort(np.bincount(real_ct.labels.ravel())[1:])[::-1][:2] + 1
    values = {"Leber": int(largest[0]), "ring": int(largest[1])}
    source = real_dicom.patients(tmp_path / "patients", real_ct, values, count=3)
    named = trained(source, tmp_path)
    images, out = source / "patient 2" / "CT", tmp_path / "out"
    drawn = done("predict", *named, "-i", images, "-o", out, "--format", "rtstruct", "--json", *QUICK).json()
    plain = done("predict", *named, "-i", images, "-o", out, "--json", *QUICK).json()
    (path,), (volume,) = drawn.values(), plain.values()
    array, grid = files.read_volume(Path(volume))
    assert array.shape == (20, 64, 64)
    assert grid.spacing_mm[1] == pytest.approx(7.8, abs=0.1)
    read = rt_utils.RTStructBuilder.create_from(str(images), path)
    assert read.get_roi_names() == ["Liver", "ring"]
    for value, name in enumerate(read.get_roi_names(), start=1):
        if (array == value).any():
            mask = read.get_roi_mask_by_name(name).transpose(2, 0, 1)
            assert (mask == (array == value)).mean() > 0.99


@pytest.mark.slow
def test_dicom_with_contours(tmp_path: Path) -> None:
    """In as series with RTSTRUCT, out as RTSTRUCT on the same images, which can be imported again."""
    source = dicom.studies(tmp_path / "patients", range(3))
    named = trained(source, tmp_path)
    out = tmp_path / "out"
    plain = done("predict", *named, "-i", source / "Doe_2", "-o", out, "--json", *QUICK).json()
    drawn = done("predict", *named, "-i", source / "Doe_2", "-o", out, "--format", "rtstruct", "--json", *QUICK).json()
    (case,) = dicom.ids([2])
    assert list(plain) == list(drawn) == [case]
    array, grid = files.read_volume(Path(plain[case]))
    structures = rtstruct.read(Path(drawn[case]))
    assert [roi.name for roi in structures.rois] == ["Liver", "Spleen"]
    assert structures.series == ("1.2.3.1",)
    for value, roi in enumerate(structures.rois, start=1):
        mask, _ = rtstruct.mask(roi, grid, file=structures.path)
        assert np.array_equal(mask, array == value)
    assert not [path for path in out.rglob("*") if "Doe" in path.name]
