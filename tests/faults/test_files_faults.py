"""Each fault of a single case, read as the stages read it: one sentence with file, case and fix, or no error at all."""

from __future__ import annotations

import json
import pickle
import traceback
from pathlib import Path

import numpy as np
import pytest

from autoseg.images.cases import read_image, read_labels
from autoseg.records.dataset import Channel, Correction, FileSource
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import Image, LabelMap
from tests.faults import builders
from tests.faults.builders import BAD, CASES, FAULTS

CHANNELS = (Channel(name="MRI", kind="mr"),)
OF_THE_IMPORT = {"f44", "f48", "f49", "f50", "f53"}
OF_A_CASE = [name for name in FAULTS if name.split("_")[0] not in OF_THE_IMPORT]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.healthy(tmp_path_factory.mktemp("faults") / "Healthy")


def read(folder: Path, case: str, corrections: tuple[Correction, ...] = ()) -> tuple[Image, LabelMap]:
    declared = json.loads((folder / "dataset.json").read_text())["labels"]
    names = [name for name in declared if name != "background"]
    labels = Labels(
        structures=tuple(Structure(name=name, value=i + 1, original=declared[name]) for i, name in enumerate(names))
    )
    source = FileSource(path=str(builders.image_file(folder, case)))
    image = read_image({"MRI": source}, CHANNELS, corrections, case=case)
    truth = FileSource(path=str(builders.label_file(folder, case)))
    return image, read_labels(truth, labels, image.grid, case=case, corrections=corrections)


def test_the_healthy_data_set_is_read(healthy: Path) -> None:
    for number, case in enumerate(CASES):
        image, labels = read(healthy, case)
        array, truth = builders.scan(number)
        assert np.array_equal(image.array[0], array.astype(np.float32))
        assert np.array_equal(labels.array, truth)
        assert image.grid.spacing_mm == builders.SPACING_MM
        assert set(np.unique(labels.array)) == {0, 1, 2}


@pytest.mark.parametrize("name", OF_A_CASE)
def test_a_fault_is_named_with_its_file_or_handled(name: str, healthy: Path, tmp_path: Path) -> None:
    folder = builders.copy(healthy, tmp_path / "Faulty")
    fault = FAULTS[name](folder)
    if fault.handled:
        image, labels = read(folder, BAD)
        assert np.array_equal(image.array[0], builders.scan(CASES.index(BAD))[0])
        assert np.array_equal(labels.array, builders.scan(CASES.index(BAD))[1])
        assert all(word in " ".join(image.notes) for word in fault.words)
        return
    with pytest.raises(DataError) as caught:
        read(folder, BAD)
    sentence = str(caught.value)
    assert caught.value.code == fault.code
    assert sentence.startswith(f"{BAD}: {fault.file}: ")
    assert [word for word in fault.words if word not in sentence] == []
    assert caught.value.fix.endswith((".", "?"))
    assert "\n" not in sentence
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Traceback (most recent call last)") == 1  # no foreign exception is shown beside it
    assert str(pickle.loads(pickle.dumps(caught.value))) == sentence  # as it comes home from a worker


@pytest.mark.parametrize("name", OF_A_CASE)
def test_the_other_cases_are_not_touched_by_a_fault(name: str, healthy: Path, tmp_path: Path) -> None:
    folder = builders.copy(healthy, tmp_path / "Faulty")
    FAULTS[name](folder)
    image, labels = read(folder, CASES[0])
    assert np.array_equal(image.array[0], builders.scan(0)[0])
    assert np.array_equal(labels.array, builders.scan(0)[1])


@pytest.mark.parametrize("name", ["f07_nan_in_image", "f08_infinite_image"])
def test_voxels_that_are_not_finite_are_filled_on_request(name: str, healthy: Path, tmp_path: Path) -> None:
    folder = builders.copy(healthy, tmp_path / "Faulty")
    FAULTS[name](folder)
    expected = builders.scan(CASES.index(BAD))[0].astype(np.float32)
    image, _ = read(folder, BAD, (Correction(kind="fill_nan", because="asked for"),))
    others = expected.copy()
    others[2, 3, 4] = expected.max()
    expected[2, 3, 4] = others.min()
    assert np.array_equal(image.array[0], expected)
    assert any("1 voxels that were not finite" in note for note in image.notes)
    image, _ = read(folder, BAD, (Correction(kind="fill_nan", value=-5.0, because="asked for"),))
    assert image.array[0, 2, 3, 4] == -5.0


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in OF_A_CASE])
def test_the_faults_of_the_import_change_the_copy_and_nothing_else(name: str, healthy: Path, tmp_path: Path) -> None:
    def listing(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    before = listing(healthy)
    folder = builders.copy(healthy, tmp_path / "Faulty")
    fault = FAULTS[name](folder)
    assert listing(folder) != before
    assert listing(healthy) == before
    assert fault.file is None or fault.file.exists()
