from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.images import kept_fields
from autoseg.images.store import write_array
from autoseg.locks import locked
from autoseg.records.configuration import Configuration, Normalization
from autoseg.records.dataset import Case, Channel, Correction, Dataset, FileSource
from autoseg.records.errors import DataError, ResourceError, UsageError
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import Image, LabelMap
from autoseg.stages import preprocessing
from autoseg.stages.preprocessing import cases_digest, inputs_digest, open_case, prepare, preprocess
from tests.images.by_hand import configuration, grid

LABELS = Labels(
    structures=(Structure(name="left", value=1, original=10), Structure(name="right", value=2, original=20)), ignore=99
)
ZSCORE = configuration(normalizations=(Normalization(channel="MR", kind="zscore"),))


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (X, Y, Z) with a border of zeros, and labels in the user's values."""
    image = np.zeros((8, 9, 10), np.float32)
    image[1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).normal(100, 10, size=(6, 7, 8))
    labels = np.zeros(image.shape, np.uint8)
    labels[2:4, 2:5, 2:6], labels[5, 5, 5], labels[6, 6, 6] = 10, 20, 99
    return image, labels


def write_case(folder: Path, id: str, seed: int) -> Case:
    files = [folder / f"{id}.nii", folder / f"{id}_labels.nii"]
    for file, array in zip(files, picture(seed), strict=True):
        nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), file)
    images = {"MR": FileSource(path=str(files[0]))}
    return Case(id=id, group=id, images=images, labels=FileSource(path=str(files[1])))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    # The reader belongs to another room; without it there is nothing to preprocess from disk.
    pytest.importorskip("autoseg.images.cases")
    (tmp_path / "source").mkdir()
    cases = tuple(write_case(tmp_path / "source", f"case_{seed}", seed) for seed in range(3))
    return Dataset(
        name="small",
        source=str(tmp_path / "source"),
        layout="nnunet",
        channels=(Channel(name="MR", kind="mr"),),
        labels=LABELS,
        cases=cases,
        folds=(),
        grouping="by case",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "preprocessed" / "key"


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def redone(dataset: Dataset, settled: Configuration, folder: Path) -> set[str]:
    """Preprocess again, and return the cases that were written."""
    before = stamps(folder)
    assert preprocess(dataset, settled.preparation, folder, workers=1) == {}
    after = stamps(folder)
    return {name.split(".")[0] for name in after if after[name] != before.get(name)}


def test_prepare_in_memory() -> None:
    array, labels = np.zeros((1, 4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)
    array[0, 1:3, 1:3, 1:3] = [[[1, 3], [1, 3]], [[1, 3], [1, 3]]]
    labels[1, 1, 2], labels[2, 2, 2] = 1, 3
    where = grid((4, 4, 4))
    case = prepare(Image(array, where), LabelMap(labels, where), ZSCORE, case="a", annotated=(1,), ignore=3)
    assert case.image.tolist() == [[[[-1, 1], [-1, 1]], [[-1, 1], [-1, 1]]]]
    assert case.labels.tolist() == [[[0, 1], [0, 0]], [[0, 0], [0, 3]]]
    assert {value: where.tolist() for value, where in case.positions.items()} == {1: [[0, 0, 1]]}
    assert (case.id, case.annotated, case.previous) == ("a", (1,), None)
    assert case.passage.crop.start == (1, 1, 1)


def test_prepare_without_labels() -> None:
    case = prepare(Image(np.ones((1, 2, 2, 2), np.float32), grid((2, 2, 2))), None, ZSCORE, case="a")
    assert case.labels is None
    assert case.positions == {}


def test_prepare_names_the_case() -> None:
    image = Image(np.ones((2, 2, 2, 2), np.float32), grid((2, 2, 2)))
    with pytest.raises(DataError, match="a_7: has 2 channels, but the plan was made for 1: MR"):
        prepare(image, None, ZSCORE, case="a_7")


def test_cases_are_written_and_opened(dataset: Dataset, folder: Path) -> None:
    assert preprocess(dataset, ZSCORE.preparation, folder, workers=2) == {}
    kinds = ("image.b2nd", "json", "labels.b2nd", "positions.npz")
    assert sorted(p.name for p in folder.iterdir()) == [f"case_{n}.{kind}" for n in range(3) for kind in kinds]
    case = open_case(folder, "case_1")
    image, labels = (array.transpose(2, 1, 0)[1:-1, 1:-1, 1:-1] for array in picture(1))
    assert np.allclose(case.image[0], (image - image.mean()) / image.std(), atol=1e-4)
    assert np.array_equal(case.labels[:], np.select([labels == 10, labels == 20, labels == 99], [1, 2, 3]))
    assert {value: len(where) for value, where in case.positions.items()} == {1: 24, 2: 1}
    assert case.annotated == (1, 2)
    assert case.passage.network.shape == (8, 7, 6)
    marker = preprocessing._marker(folder, "case_1")
    assert marker.voxels == (24, 1)


def test_one_process_or_two_write_the_same(dataset: Dataset, tmp_path: Path) -> None:
    written = []
    for count in (1, 2):
        preprocess(dataset, ZSCORE.preparation, tmp_path / str(count), workers=count)
        written.append({p.name: p.read_bytes() for p in (tmp_path / str(count)).glob("*.b2nd")})
    assert written[0] == written[1]


def test_finished_cases_are_left_alone(dataset: Dataset, folder: Path) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, cases=["case_0"], workers=1)
    assert redone(dataset, ZSCORE, folder) == {"case_1", "case_2"}
    assert redone(dataset, ZSCORE, folder) == set()
    # What preprocessing does not read may change.
    assert redone(dataset, ZSCORE.model_copy(update={"batch_size": 7, "name": "other"}), folder) == set()


CHANGES: list[dict] = [
    {"spacing_mm": (2.0, 1.0, 1.0)},
    {"axis_order": (1, 0, 2)},
    {"normalizations": (Normalization(channel="MR", kind="none"),)},
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_configuration_makes_every_case_stale(dataset: Dataset, folder: Path, change: dict) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    assert redone(dataset, ZSCORE.model_copy(update=change), folder) == {"case_0", "case_1", "case_2"}


def test_a_changed_file_makes_its_case_stale(dataset: Dataset, folder: Path) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    write_case(Path(dataset.source), "case_1", seed=9)
    assert redone(dataset, ZSCORE, folder) == {"case_1"}


def test_corrections_and_annotations_count(dataset: Dataset) -> None:
    case = dataset.cases[0]
    before = inputs_digest(dataset, case, ZSCORE)
    fill = Correction(kind="fill_nan", value=0.0, because="nan")
    assert inputs_digest(dataset.model_copy(update={"corrections": (fill,)}), case, ZSCORE) != before
    assert inputs_digest(dataset, case.model_copy(update={"annotated": ("left",)}), ZSCORE) != before
    assert inputs_digest(dataset, case.model_copy(update={"attributes": {"site": "a"}}), ZSCORE) == before


def test_another_bias_field_makes_only_its_own_cases_again(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    n4 = dataset.model_copy(update={"corrections": (Correction(kind="n4", because="asked for"),)})
    before = [inputs_digest(item, dataset.cases[0], ZSCORE) for item in (n4, dataset)]
    monkeypatch.setattr(kept_fields, "METHOD_VERSION", -1)
    after = [inputs_digest(item, dataset.cases[0], ZSCORE) for item in (n4, dataset)]
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("name", ["case_1.json", "case_1.image.b2nd", "case_1.positions.npz"])
def test_a_case_that_lacks_a_file_is_done_again(dataset: Dataset, folder: Path, name: str) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    (folder / name).unlink()
    with pytest.raises(DataError, match=r"case_1: .*Run the same command again to redo this case"):
        open_case(folder, "case_1")
    assert redone(dataset, ZSCORE, folder) == {"case_1"}
    open_case(folder, "case_1")


@pytest.mark.parametrize("name", ["case_1.image.b2nd", "case_1.labels.b2nd", "case_1.positions.npz"])
def test_a_flipped_bit_is_named_and_mended(dataset: Dataset, folder: Path, name: str) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="is damaged") as error:
        open_case(folder, "case_1")
    assert (error.value.case, error.value.file) == ("case_1", str(folder / name))
    assert redone(dataset, ZSCORE, folder) == {"case_1"}


def test_a_run_that_dies_before_the_marker_is_resumed(
    dataset: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(dataset, ZSCORE.preparation, tmp_path / "unbroken", workers=1)

    def killed(path: Path, record: object, *, durable: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    (folder / ".tmp-left.b2nd").write_bytes(b"half")
    assert preprocess(dataset, ZSCORE.preparation, folder, workers=1) == {}
    found, expected = ({p.name: p.read_bytes() for p in f.iterdir()} for f in (folder, tmp_path / "unbroken"))
    assert found == expected


@pytest.mark.parametrize("count", [1, 2])
def test_a_bad_case_does_not_stop_the_others(dataset: Dataset, folder: Path, count: int) -> None:
    broken = Path(dataset.source) / "case_1.nii"
    broken.write_bytes(broken.read_bytes()[:500])
    (Path(dataset.source) / "case_2_labels.nii").unlink()
    failures = preprocess(dataset, ZSCORE.preparation, folder, workers=count)
    assert sorted(failures) == ["case_1", "case_2"]
    assert failures["case_1"].case == "case_1"
    assert "case_1.nii" in str(failures["case_1"])
    assert "case_2_labels.nii: is missing" in str(failures["case_2"])
    assert open_case(folder, "case_0").image.shape == (1, 8, 7, 6)
    assert not (folder / "case_1.json").exists()


def test_partly_annotated(dataset: Dataset, folder: Path) -> None:
    case = dataset.cases[0].model_copy(update={"annotated": ("right",)})
    preprocess(dataset.model_copy(update={"cases": (case,)}), ZSCORE, folder, workers=1)
    assert open_case(folder, "case_0").annotated == (2,)


def test_a_case_without_labels(dataset: Dataset, folder: Path) -> None:
    case = dataset.cases[0].model_copy(update={"labels": None})
    assert preprocess(dataset.model_copy(update={"cases": (case,)}), ZSCORE, folder, workers=1) == {}
    opened = open_case(folder, "case_0")
    assert opened.labels is None
    assert opened.positions == {}


def test_two_runs_do_not_write_into_one_folder(dataset: Dataset, folder: Path) -> None:
    with locked(folder), pytest.raises(ResourceError, match="another run has been working here"):
        preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    assert os.listdir(folder) == []


def test_an_unknown_case_is_refused(dataset: Dataset, folder: Path) -> None:
    with pytest.raises(UsageError, match="has no case 'case_9'"):
        preprocess(dataset, ZSCORE.preparation, folder, cases=["case_9"])


def test_the_previous_stage_is_opened_beside(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, cases=["case_0"], workers=1)
    labels = np.arange(8 * 7 * 6, dtype=np.uint8).reshape(8, 7, 6)
    write_array(tmp_path / "previous.b2nd", labels)
    assert np.array_equal(open_case(folder, "case_0", previous=tmp_path / "previous.b2nd").previous[:], labels)
    write_array(tmp_path / "previous.b2nd", labels[:4])
    with pytest.raises(DataError, match=r"case_0: .*predicted \(4, 7, 6\) voxels instead of \(8, 7, 6\)"):
        open_case(folder, "case_0", previous=tmp_path / "previous.b2nd")


def test_cases_digest(dataset: Dataset, folder: Path) -> None:
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    digest = cases_digest(folder, ["case_0", "case_1"])
    assert digest == cases_digest(folder, ["case_1", "case_0"])
    assert digest != cases_digest(folder, ["case_0", "case_2"])
    os.utime(Path(dataset.source) / "case_1.nii", (0, 0))
    assert redone(dataset, ZSCORE, folder) == {"case_1"}
    assert digest == cases_digest(folder, ["case_0", "case_1"])  # touched, but the same
    write_case(Path(dataset.source), "case_1", seed=9)
    preprocess(dataset, ZSCORE.preparation, folder, workers=1)
    assert digest != cases_digest(folder, ["case_0", "case_1"])
    with pytest.raises(DataError, match=r"case_7: .*is not preprocessed, or only in part"):
        cases_digest(folder, ["case_7"])
