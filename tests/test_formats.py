"""`autoseg predict --format`: every format holds the same prediction, and `--resume` keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files, slices
from autoseg.stages.predicting.outputs import DICOM, FORMATS
from tests.command_line import done, listing, refused, typed
from tests.conftest import WholeWay, measure_little
from tests.faults import builders

QUICK = ("--no-mirror", "--step", 1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_little(monkeypatch)


@pytest.fixture
def scan(whole_way: WholeWay, tmp_path: Path) -> Path:
    """A scan that came as MetaImage."""
    array, grid = files.read_volume(builders.image_file(whole_way.raw, "MR_1"))
    path = tmp_path / "scans" / "new.mha"
    path.parent.mkdir()
    files.write_volume(path, array, grid)
    return path


def predict(whole_way: WholeWay, scan: Path, out: Path, *more: object) -> Path:
    words = ("predict", "-d", "Knot", "--root", whole_way.root, "-i", scan, "-o", out, "--json")
    (path,) = done(*words, *QUICK, *more).json().values()
    return Path(path)


def test_the_same_prediction_in_every_format(whole_way: WholeWay, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    usual, grid = files.read_volume(predict(whole_way, scan, out))
    assert (out / "new.nii.gz").exists()
    assert set(np.unique(usual)) <= {0, 1, 5}
    for name, file in (("auto", "new.mha"), ("nrrd", "new.seg.nrrd")):
        path = predict(whole_way, scan, out, "--format", name)
        array, found = files.read_volume(path)
        assert path.name == file
        assert np.array_equal(array, usual)
        assert grid.difference(found) is None
    pictures = sorted(predict(whole_way, scan, out, "--format", "png").glob("*.png"))
    assert np.array_equal(np.concatenate([files.read_volume(path)[0] for path in pictures]), usual)
    masks = predict(whole_way, scan, out, "--format", "masks")
    table = predict(whole_way, scan, out, "--format", "rle", "--label-file")
    rows = list(slices.read_rows(table, text="predicted"))
    for name, value in (("core", 1), ("rim", 5)):
        assert np.array_equal(files.read_volume(masks / f"{name}.nii.gz")[0] > 0, usual == value)
        planes = [slices.decode(text, usual.shape[1:], file=table, id=id) for id, item, text in rows if item == name]
        assert np.array_equal(np.stack(planes), usual == value)
    assert '"rim"' in (out / "labels.txt").read_text()


def test_the_cost_is_said_before_and_after(whole_way: WholeWay, scan: Path, tmp_path: Path) -> None:
    out, at = tmp_path / "out", ("-d", "Knot", "--root", whole_way.root, *QUICK)
    words = ("predict", *at, "-i", scan, "-o", out, "--memory-gb", 0.01)
    (cost,) = done(*words, "--dry-run", "--json").json()
    assert cost["case"] == "new"
    assert cost["seconds"] > 0
    assert 0 < cost["memory_gb"] < 8
    assert "would predict 1 scan" in done(*words, "--dry-run").out
    assert not out.exists(), "a dry run writes nothing"
    said = done(*words).err
    assert "1 scan: " in said
    assert "of computing" in said
    assert "GB of memory at most" in said
    assert "seconds a scan" in said


def test_probabilities_are_written_beside_the_labels(whole_way: WholeWay, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    labels, grid = files.read_volume(predict(whole_way, scan, out, "--probabilities"))
    core, rim = (files.read_volume(out / "probabilities" / f"new_{name}.nii.gz") for name in ("core", "rim"))
    assert core[0].dtype == np.float32
    assert grid.difference(core[1]) is None
    assert {path.name for path in out.iterdir()} == {"new.nii.gz", "probabilities"}
    # Two digits of a probability are kept: where the first is clearly ahead, the label says so.
    background = 1 - core[0] - rim[0]
    for value, ahead, others in ((1, core[0], (background, rim[0])), (5, rim[0], (background, core[0]))):
        assert (labels[ahead > np.maximum(*others) + 0.01] == value).all()


def test_fast_and_uncertainty_exclude_each_other(whole_way: WholeWay, scan: Path, tmp_path: Path) -> None:
    words = ("predict", "-d", "Knot", "--root", whole_way.root, "-i", scan, "-o", tmp_path / "out", "--fast")
    assert "Leave one of them out." in refused(*words, "--uncertainty", code=2)
    assert not (tmp_path / "out").exists()
    assert done(*words, *QUICK, "--json").json()["new"].endswith("new.nii.gz")


@pytest.mark.parametrize("name", ["auto", *(name for name in FORMATS if name not in DICOM)])
def test_resume_leaves_every_format_as_it_is(whole_way: WholeWay, scan: Path, tmp_path: Path, name: str) -> None:
    first = predict(whole_way, scan, tmp_path / "out", "--format", name)
    before = listing(tmp_path / "out")
    assert predict(whole_way, scan, tmp_path / "out", "--format", name, "--resume") == first
    assert listing(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["png", "rle"])
def test_a_damaged_scan_does_not_stop_a_resumed_run(whole_way: WholeWay, scan: Path, tmp_path: Path, name: str) -> None:
    (scan.parent / "broken.mha").write_bytes(scan.read_bytes()[:100])
    words = ("predict", "-d", "Knot", "--root", whole_way.root, "-i", scan.parent, "-o", tmp_path / "out")
    outcome = typed(*words, "--format", name, "--resume", *QUICK)
    assert outcome.code == 4, outcome.said
    assert "broken" in outcome.said
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_an_unknown_format_is_refused_before_any_work(whole_way: WholeWay, scan: Path, tmp_path: Path) -> None:
    words = ("predict", "-d", "Knot", "--root", whole_way.root, "-i", scan, "-o", tmp_path / "out")
    assert "There are auto, nifti" in refused(*words, "--format", "stl", code=2)
    assert not (tmp_path / "out").exists()
