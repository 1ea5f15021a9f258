from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from autoseg.images.cases import read_image, read_labels
from autoseg.records.dataset import FileSource
from autoseg.records.errors import DataError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.pictures import group_by_name, read, recognise
from autoseg.stages.predicting import outputs
from tests.stages.importing.simple import mask, photo, picture, pictures
from tests.stages.importing.variants import pictures_painted


def test_black_and_white_masks_become_one_structure(tmp_path: Path) -> None:
    dataset = import_dataset(pictures(tmp_path, ["a", "b"]), "p", options=ImportOptions())
    assert [(item.name, item.value, item.original) for item in dataset.labels.structures] == [("foreground", 1, 255)]
    assert "remap_labels" in [correction.kind for correction in dataset.corrections]
    assert any("1 mm" in note for note in dataset.notes)
    image = read_image(dataset.cases[0].images, dataset.channels, (), case="a")
    labels = dataset.cases[0].labels
    assert labels is not None
    assert np.unique(read_labels(labels, dataset.labels, image.grid, case="a").array).tolist() == [0, 1]


@pytest.mark.parametrize("ending", ["-mask", "_mask", "_label"])
def test_pairs_side_by_side_in_folders_of_splits(tmp_path: Path, ending: str) -> None:
    for split in ("train", "test"):
        for seed in range(2):
            picture(tmp_path / split / f"{split}{seed}.png", photo(seed))
            picture(tmp_path / split / f"{split}{seed}{ending}.bmp", mask(1, 3))
    draft = read(tmp_path, ImportOptions())
    assert [case.id for case in draft.cases] == ["test0", "test1", "train0", "train1"]
    assert draft.test_cases == ("test0", "test1")
    assert [item.name for item in draft.labels.structures] == ["class_1", "class_3"]


def test_same_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pictures(tmp_path / split, ["a"])
    assert [case.id for case in read(tmp_path, ImportOptions()).cases] == ["train_a", "val_a"]


def test_colours_are_three_channels_of_one_file(tmp_path: Path) -> None:
    draft = read(pictures(tmp_path, ["a", "b"], colours=3), ImportOptions())
    assert [channel.kind for channel in draft.channels] == ["rgb"] * 3
    sources = draft.cases[0].images.values()
    assert [source.volume for source in sources if isinstance(source, FileSource)] == [0, 1, 2]


def test_grey_among_coloured_is_listed(tmp_path: Path) -> None:
    pictures(tmp_path, ["a", "b", "c"], colours=3)
    picture(tmp_path / "images" / "b.png", photo(1))
    with pytest.raises(DataError, match="1 of 3 pictures do not have 3 colours as the first one has: b"):
        read(tmp_path, ImportOptions())


def test_lonely_pictures_are_all_listed(tmp_path: Path) -> None:
    pictures(tmp_path, ["a", "b", "c"])
    for id in ("a", "c"):
        (tmp_path / "masks" / f"{id}.png").unlink()
    with pytest.raises(DataError, match=r"2 pictures have no mask \(and 1 have both\): a, c"):
        read(tmp_path, ImportOptions())
    assert [case.id for case in read(tmp_path, ImportOptions(skip=("a", "c"))).cases] == ["b"]


def test_soft_edges_are_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", photo(1))
    picture(tmp_path / "masks" / "a.png", np.arange(200, dtype=np.uint8).reshape(10, 20))
    with pytest.raises(DataError, match="199 values above 0 were found"):
        read(tmp_path, ImportOptions())


def test_a_folder_of_photos_is_not_recognised(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", photo(1))
    assert not recognise(tmp_path)


def test_patients_stand_before_the_number_of_the_picture() -> None:
    grouping = group_by_name(["HF-I-01-IM-0001-0048.dcm", "HF-I-01-IM-0001-0059.dcm", "N-02-IM-0001-0008.dcm"])
    assert grouping is not None
    assert list(grouping.groups.values()) == ["HF-I-01", "HF-I-01", "N-02"]


def test_real_slices_are_of_fifteen_patients(real_data: Path) -> None:
    dataset = import_dataset(real_data / "sunnybrook_png", "heart", options=ImportOptions())
    assert (len(dataset.cases), len({case.group for case in dataset.cases})) == (260, 15)
    assert "SC-HF-I-01" in {case.group for case in dataset.cases}
    assert [channel.kind for channel in dataset.channels] == ["other"]
    assert [item.original for item in dataset.labels.structures] == [255]


def test_painted_masks_have_a_structure_a_colour(tmp_path: Path) -> None:
    dataset = import_dataset(pictures_painted(tmp_path, ["a", "b"]), "p", options=ImportOptions())
    said = [(item.name, item.value, item.original, item.colour) for item in dataset.labels.structures]
    assert said == [("red", 1, 1, (255, 0, 0)), ("colour_ff8000", 2, 2, (255, 128, 0))]
    assert any("#ff0000 = red" in note for note in dataset.notes)
    image = read_image(dataset.cases[1].images, dataset.channels, (), case="b")
    labels = dataset.cases[1].labels
    assert labels is not None
    array = read_labels(labels, dataset.labels, image.grid, case="b").array[0]
    assert (array[2, 2], array[6, 7], array[0, 0]) == (1, 2, 0)


def test_a_prediction_of_painted_masks_is_painted(tmp_path: Path) -> None:
    source = pictures_painted(tmp_path / "in", ["a", "b"])
    dataset = import_dataset(source, "p", options=ImportOptions())
    case = dataset.cases[1]
    image = read_image(case.images, dataset.channels, (), case="b")
    assert case.labels is not None
    truth = read_labels(case.labels, dataset.labels, image.grid, case="b")
    (path,) = outputs.choose("auto", case).write(outputs.Segmentation(case, truth, dataset.labels), tmp_path / "b")
    with Picture.open(path) as written, Picture.open(source / "masks" / "b.png") as original:
        assert np.array_equal(np.asarray(written), np.asarray(original))


def test_a_colour_that_was_not_declared_is_named(tmp_path: Path) -> None:
    dataset = import_dataset(pictures_painted(tmp_path, ["a", "b"]), "p", options=ImportOptions())
    picture(tmp_path / "masks" / "b.png", np.full((8, 10, 3), (1, 2, 3), np.uint8))
    image = read_image(dataset.cases[1].images, dataset.channels, (), case="b")
    assert dataset.cases[1].labels is not None
    with pytest.raises(DataError, match="1 colours that were not declared, the first #010203"):
        read_labels(dataset.cases[1].labels, dataset.labels, image.grid, case="b")
