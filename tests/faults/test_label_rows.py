"""F18, F21, F36: odd but sound label values go the whole way and come back; colours in the place of labels do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from autoseg.images import files
from autoseg.images.cases import read_labels
from autoseg.records.dataset import Dataset, FileSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.stages.importing.structures import make_labels
from tests.command_line import done
from tests.conftest import measure_little
from tests.faults import builders

CORE, RIM, IGNORE = 1, 5, 3


@pytest.fixture
def odd_values(tmp_path: Path) -> Path:
    """Labels 0, 1 and 5, and between them an ignore label of 3: the last slices of every scan were not annotated."""
    folder = builders.healthy(tmp_path / "raw", cases=3)
    for case in builders.CASES[:3]:
        labels = np.array([0, CORE, RIM], np.uint8)[builders.load(builders.label_file(folder, case))]
        labels[-4:] = IGNORE
        builders.save(builders.label_file(folder, case), labels)
    builders.write_json(folder, labels={"background": 0, "core": CORE, "ignore": IGNORE, "rim": RIM}, numTraining=3)
    return folder


@pytest.mark.slow
def test_f18_f21_values_with_gaps_and_an_ignore_label_between_them(
    odd_values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    root = ("--root", tmp_path / "w")
    dataset = Dataset.parse(done("import", odd_values, "--as", "D", "--folds", 2, *root, "--json").out, file="")
    assert [(item.value, item.original) for item in dataset.labels.structures] == [(1, CORE), (2, RIM)]
    assert dataset.labels.ignore == IGNORE
    done("check", "-d", "D", "--workers", 1, *root)
    done("run", "-d", "D", "--preset", "smoke", "--workers", 1, *root)
    out = tmp_path / "out"
    done("predict", "-d", "D", "-i", odd_values / "imagesTr", "-o", out, "--no-mirror", "--step", 1.0, *root)
    kept = tmp_path / "w" / "D" / "ensemble"
    predicted = [*sorted(out.glob("*.nii.gz")), *sorted(kept.rglob("*.nii.gz"))]
    assert len(predicted) >= 3
    found = {int(value) for path in predicted for value in np.unique(files.read_volume(path)[0])}
    assert found <= {0, CORE, RIM}, "neither the ignore label nor a value inside autoseg is ever predicted"
    assert found & {CORE, RIM}
    written = json.loads((tmp_path / "w" / "D" / "dataset.json").read_text())
    assert written["labels"]["ignore"] == IGNORE


def test_what_is_ignored_is_no_background(odd_values: Path, tmp_path: Path) -> None:
    dataset = Dataset.parse(done("import", odd_values, "--as", "D", "--root", tmp_path / "w", "--json").out, file="")
    case = dataset.cases[0]
    assert case.labels is not None
    _, grid = files.read_volume(builders.image_file(odd_values, case.id))
    inside = read_labels(case.labels, dataset.labels, grid, case=case.id).array
    assert np.unique(inside[-4:]).tolist() == [3]  # behind the two structures
    assert set(np.unique(inside[:-4])) == {0, 1, 2}


def test_f36_a_colour_picture_is_no_label_map_of_values(tmp_path: Path) -> None:
    colours = np.zeros((6, 8, 3), np.uint8)
    colours[2:4, 3:6] = (1, 2, 0)
    Picture.fromarray(colours).save(tmp_path / "a.png")
    grid = Grid(shape=(1, 6, 8), spacing_mm=(1.0, 1.0, 1.0))
    labels = make_labels({1: "organ", 2: "tumour"})
    with pytest.raises(DataError, match=r"A: .*a\.png.*is coloured") as caught:
        read_labels(FileSource(path=str(tmp_path / "a.png")), labels, grid, case="A")
    assert caught.value.code == "coloured_picture"
