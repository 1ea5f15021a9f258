import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.records.dataset import Case, Channel, Dataset, FileSource, Fold
from autoseg.records.errors import CasesFailed, DataError, UsageError
from autoseg.records.labels import Labels, Structure
from autoseg.stages.fingerprinting import measure

pytest.importorskip("autoseg.images.cases")
pytest.importorskip("autoseg.images.regrid")
pytest.importorskip("autoseg.compute.workers")


def write(path: Path, array: np.ndarray, spacing_mm=(2.0, 1.0, 1.0)) -> FileSource:
    """Write (Z, Y, X) as NIfTI with LPS axes, so that reading turns nothing."""
    z, y, x = spacing_mm
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([-x, -y, z, 1.0])), path)
    return FileSource(path=str(path))


def case(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, **more) -> Case:
    return Case(
        id=name,
        group=more.pop("group", name),
        images={"mr": write(folder / f"{name}.nii.gz", image)},
        labels=write(folder / f"{name}_labels.nii.gz", labels),
        **more,
    )


def dataset(*cases: Case, ignore: int | None = None) -> Dataset:
    ids = tuple(item.id for item in cases)
    structures = (Structure(name="first", value=1, original=1), Structure(name="second", value=2, original=2))
    return Dataset(
        name="example",
        source="/data/example",
        layout="nnunet",
        channels=(Channel(name="mr", kind="mr"),),
        labels=Labels(structures=structures, ignore=ignore),
        cases=cases,
        folds=(Fold(name="0", training=ids, held_out=()),),
        grouping="one case a patient",
    )


def block(value: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """An image of 10 x 12 x 14 that is zero outside of 6 x 8 x 10, with a structure of 2 x 3 x 4 in it."""
    image, labels = np.zeros((10, 12, 14), np.float32), np.zeros((10, 12, 14), np.uint8)
    image[2:8, 2:10, 2:12] = value
    labels[2:4, 2:5, 2:6] = 1
    return image, labels


def test_shapes_are_those_of_the_part_that_is_not_zero(tmp_path):
    (facts,) = measure(dataset(case(tmp_path, "a", *block())), workers=1).cases
    assert facts.shape == (6, 8, 10)
    assert facts.spacing_mm == pytest.approx((2, 1, 1))
    assert facts.crop_fraction == pytest.approx(6 * 8 * 10 / (10 * 12 * 14))
    assert facts.voxels == (24, 0)


def test_structures_have_volume_extent_and_centre(tmp_path):
    first, second = measure(dataset(case(tmp_path, "a", *block())), workers=1).structures
    assert first.volume_ml == pytest.approx((0.048, 0.048, 0.048)), "24 voxels of 2 mm3"
    assert first.extent_mm == pytest.approx((4, 3, 4))
    assert first.centroid == pytest.approx((1 / 6, 1.5 / 8, 2 / 10))
    assert (first.annotated_cases, first.present_cases) == (1, 1)
    assert (second.annotated_cases, second.present_cases) == (1, 0)


def test_a_structure_that_nobody_looked_for_is_not_absent(tmp_path):
    found = measure(dataset(case(tmp_path, "a", *block(), annotated=("first",))), workers=1)
    assert [item.annotated_cases for item in found.structures] == [1, 0]


def test_intensities_are_those_of_the_foreground(tmp_path):
    image, labels = block()
    image[labels == 1] = np.arange(1, 25)
    (found,) = measure(dataset(case(tmp_path, "a", image, labels)), workers=1).intensities
    assert (found.minimum, found.maximum, found.mean, found.median) == (1, 24, 12.5, 12.5)
    assert found.std == pytest.approx(np.arange(1, 25).std())
    assert found.p99_5 == pytest.approx(np.percentile(np.arange(1, 25), 99.5))


def test_what_is_ignored_counts_nowhere(tmp_path):
    image, labels = block()
    image[6:8, 6:8, 6:8], labels[6:8, 6:8, 6:8] = 1000, 9
    found = measure(dataset(case(tmp_path, "a", image, labels), ignore=9), workers=1)
    assert found.cases[0].voxels == (24, 0)
    assert found.intensities[0].maximum == 5


def test_at_most_an_equal_number_of_voxels_a_case_is_drawn_the_same_every_time(tmp_path, monkeypatch):
    image, labels = block()
    image[labels == 1] = np.arange(1, 25)
    cases = [case(tmp_path, name, image, labels) for name in ("a", "b")]
    monkeypatch.setattr("autoseg.stages.fingerprinting.SAMPLED_VOXELS", 20)
    once, twice = (measure(dataset(*cases), workers=1) for _ in range(2))
    assert once == twice
    # Keyed by the case: two cases with the same voxels draw different ones.
    alone = [measure(dataset(item), workers=1).intensities[0].mean for item in cases]
    assert alone[0] != alone[1]


def test_processes_do_not_change_the_result(tmp_path):
    found = dataset(*(case(tmp_path, name, *block(value)) for name, value in (("a", 3.0), ("b", 4.0), ("c", 5.0))))
    assert measure(found, workers=1).to_json() == measure(found, workers=2).to_json()


def test_patients_are_counted_not_scans(tmp_path):
    cases = [case(tmp_path, name, *block(), group="one") for name in ("a", "b")]
    assert measure(dataset(*cases), workers=1).groups == 1


def test_every_case_that_fails_is_listed_and_can_be_left_out(tmp_path):
    found = dataset(*(case(tmp_path, name, *block()) for name in ("a", "b", "c")))
    for name in ("a", "c"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"no image")
    with pytest.raises(CasesFailed, match="2 of 3 cases cannot be measured") as caught:
        measure(found, workers=1)
    assert sorted(caught.value.failures) == ["a", "c"]
    assert "--skip a,c" in str(caught.value)
    assert [facts.id for facts in measure(found, workers=1, skip=("a", "c")).cases] == ["b"]


def test_a_case_to_skip_must_exist(tmp_path):
    with pytest.raises(UsageError, match="no case 'z'"):
        measure(dataset(case(tmp_path, "a", *block())), workers=1, skip=("z",))


def test_labels_without_a_voxel_are_nothing_to_learn_from(tmp_path):
    image, labels = block()
    with pytest.raises(DataError, match="none of the 1 cases of example holds a labelled voxel"):
        measure(dataset(case(tmp_path, "a", image, 0 * labels)), workers=1)


def test_test_cases_are_never_looked_at(tmp_path):
    found = dataset(case(tmp_path, "a", *block()))
    locked = case(tmp_path, "locked", *block())
    (tmp_path / "locked.nii.gz").unlink()
    assert len(measure(found.model_copy(update={"test_cases": (locked,)}), workers=1).cases) == 1


def test_workers_do_without_torch():
    code = "import sys, autoseg.stages.fingerprinting, autoseg.images.cases, autoseg.images.regrid; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hippocampus(real_data):
    root = real_data / "Task04_Hippocampus"
    files = sorted((root / "imagesTr").glob("hippocampus_*.nii.gz"))[:12]
    cases = [
        Case(
            id=path.name.removesuffix(".nii.gz"),
            group=path.name,
            images={"mr": FileSource(path=str(path))},
            labels=FileSource(path=str(root / "labelsTr" / path.name)),
        )
        for path in files
    ]
    found = measure(dataset(*cases), workers=1)
    assert all(facts.spacing_mm == pytest.approx((1, 1, 1)) for facts in found.cases)
    assert all(item.present_cases == 12 for item in found.structures)
    anterior, posterior = found.structures
    assert anterior.centroid[1] < posterior.centroid[1], "in LPS the anterior part has the smaller y"
    assert 1.0 < anterior.volume_ml[1] < 2.5


def speckled(count: int, side: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An image of 40 x 40 x 40 with `count` cubes of `side` voxels in it."""
    labels = np.zeros((40, 40, 40), np.uint8)
    for number in range(count):
        corner = 2 + 6 * number
        labels[corner : corner + side, 3 : 3 + side, 3 : 3 + side] = 1 + number % 2
    return np.ones((40, 40, 40), np.float32), labels


def test_small_sparse_pieces_are_counted_all_structures_together(tmp_path):
    found = measure(dataset(case(tmp_path, "a", *speckled(3)), case(tmp_path, "b", *speckled(5, 2))), workers=1).pieces
    assert found is not None
    assert found.per_case[1] == 4
    assert found.longest_mm[1] == pytest.approx(4), "the longest side of 2 voxels of 2 mm; 5 of 8 pieces are such"
    assert found.volume_ml[1] == pytest.approx(0.016)
    assert found.image_fraction == pytest.approx((3 + 40) / 2 / 40**3)


def test_single_or_large_pieces_are_no_lesions(tmp_path):
    assert measure(dataset(case(tmp_path, "a", *speckled(1))), workers=1).pieces is None
    assert measure(dataset(case(tmp_path, "b", *speckled(6, 5))), workers=1).pieces is None, "1.2 % of the image"
    assert "pieces" not in measure(dataset(case(tmp_path, "c", *block())), workers=1).to_json()
