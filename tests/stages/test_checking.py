from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files
from autoseg.records.check import CheckReport
from autoseg.records.dataset import Case, Channel, Dataset, FileSource
from autoseg.records.geometry import Grid
from autoseg.stages.checking import Look, Task, check, leaving_out, look_at, outliers, people, report
from autoseg.stages.importing import ImportOptions, import_dataset, make_folds
from autoseg.stages.importing.siblings import ScanFacts, facts_of
from autoseg.stages.importing.structures import make_labels
from tests.stages.importing.writers import SHAPE, blob, hanseg, nnunet, voxels, write_nifti, write_nrrd

IDS = [f"p{n}" for n in range(6)]


def checked(source: Path) -> CheckReport:
    return check(import_dataset(source, "study", options=ImportOptions()), workers=1)


def rows(found: CheckReport) -> list[tuple[str, str, str | None]]:
    return [(p.severity, p.code, p.case) for p in found.problems]


def records(looks: dict[str, Look], *, groups: dict[str, str] | None = None) -> CheckReport:
    """Report on looks written by hand, of a data set with the structures `organ` and `tumour`."""
    cases = tuple(Case(id=id, group=(groups or {}).get(id, id), images={}) for id in looks)
    dataset = Dataset(
        name="study",
        source="/s",
        layout="nnunet",
        channels=(Channel(name="CT", kind="ct"),),
        labels=make_labels({1: "organ", 2: "tumour"}),
        cases=cases,
        folds=make_folds(cases, None),
        grouping="",
    )
    return report(dataset, looks)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return nnunet(tmp_path, IDS)


def test_a_sound_data_set_has_no_problem(source: Path) -> None:
    found = checked(source)
    assert found.problems == ()
    assert found.cases == 6


def test_constant_and_zero_images(source: Path) -> None:
    write_nifti(source / "imagesTr" / "p1_0000.nii.gz", np.full(SHAPE, 7, np.float32))
    write_nifti(source / "imagesTr" / "p2_0000.nii.gz", np.zeros(SHAPE, np.float32))
    found = checked(source)
    assert rows(found) == [("warning", "constant_image", "p1"), ("warning", "zero_image", "p2")]
    assert found.problems[0].what == "channel CT is 7 everywhere: there is nothing to see"
    assert found.problems[0].file == str(source / "imagesTr" / "p1_0000.nii.gz")


def test_all_problems_come_at_once_image_and_labels_of_one_case_too(source: Path) -> None:
    bad = voxels(0)
    bad[0, 0, 0] = np.nan
    write_nifti(source / "imagesTr" / "p1_0000.nii.gz", bad)
    write_nifti(source / "labelsTr" / "p1.nii.gz", blob(1, 2, 7))
    (source / "imagesTr" / "p4_0000.nii.gz").write_bytes(b"<html>")
    found = checked(source)
    assert [(p.severity, p.case) for p in found.problems] == [("error", "p1"), ("error", "p1"), ("error", "p4")]
    assert all(problem.file and problem.fix for problem in found.problems)
    assert found.errors() == found.problems


def test_an_empty_label_map_is_a_warning(source: Path) -> None:
    write_nifti(source / "labelsTr" / "p3.nii.gz", blob())
    assert rows(checked(source)) == [("warning", "empty_labels", "p3")]


def test_nothing_to_learn_is_an_error_of_the_data_set(source: Path) -> None:
    for id in IDS:
        write_nifti(source / "labelsTr" / f"{id}.nii.gz", blob())
    found = checked(source)
    assert rows(found)[0] == ("error", "all_labels_empty", None)
    assert found.problems[0].what == "none of 6 label maps holds a structure: nothing to learn"
    assert len(found.errors()) == 1


def test_the_same_scan_twice(source: Path) -> None:
    write_nifti(source / "imagesTr" / "p5_0000.nii.gz", voxels(0))
    (problem,) = checked(source).problems
    assert (problem.code, problem.case) == ("duplicate_image", "p5")
    assert "has the same voxels as p0 although their groups differ" in problem.what


def test_an_empty_mask_is_named_and_an_absent_one_is_not(tmp_path: Path) -> None:
    cases = {f"case_{n:02d}": ("Brainstem", "Larynx") for n in range(1, 7)} | {"case_07": ("Brainstem",)}
    hanseg(tmp_path, cases | {"case_08": ("Brainstem", "Pituitary")})
    write_nrrd(tmp_path / "set_1" / "case_08" / "case_08_OAR_Pituitary.seg.nrrd", blob())
    found = checked(tmp_path)
    codes = [(p.code, p.case) for p in found.problems]
    assert codes == [("class_missing", None), ("reader_note", None), ("empty_mask", "case_08")]
    assert found.problems[2].what == "masks without a voxel of their own (empty, or covered by others): Pituitary"


def test_missing_and_rare_classes() -> None:
    looks = {f"c{n}": Look(volumes_ml={"organ": 9.0 if n < 3 else 0.0, "tumour": 0.0}) for n in range(6)}
    first, second = records(looks).problems
    assert (first.code, second.code) == ("rare_class", "class_missing")
    assert first.what == "'organ' is found in 3 groups, but there are 5 folds"
    assert second.what == "'tumour' (value 2) is found in no case"


def test_odd_volumes_but_not_lesions() -> None:
    even = {f"c{n}": 10.0 + n for n in range(8)} | {"c7": 0.01}
    lesions = {f"c{n}": 10.0 ** (n - 3) for n in range(8)}
    looks = {id: Look(volumes_ml={"organ": even[id], "tumour": lesions[id]}) for id in even}
    (problem,) = records(looks).problems
    assert (problem.code, problem.case) == ("odd_volume", "c7")
    assert problem.what == "'organ' measures 0.01 ml, in the median case 12.5 ml"


def test_odd_spacing() -> None:
    looks = {f"c{n}": Look(spacing_mm=(1.0, 1.0, 1.0)) for n in range(6)} | {"c9": Look(spacing_mm=(10.0, 8.0, 8.0))}
    (problem,) = records(looks).problems
    assert (problem.code, problem.case) == ("odd_spacing", "c9")
    assert "voxels of 10 x 8 x 8 mm (z, y, x)" in problem.what


def test_siblings_with_the_same_voxels_leak_nowhere() -> None:
    looks = {"a": Look(digest="d"), "b": Look(digest="d"), "c": Look(digest=None), "e": Look(digest=None)}
    (problem,) = records(looks, groups={"a": "g", "b": "g"}).problems
    assert problem.what == "has the same voxels as a"


def test_test_cases_are_looked_at_as_well(source: Path) -> None:
    write_nifti(source / "imagesTr" / "p5_0000.nii.gz", np.zeros(SHAPE, np.float32))
    dataset = import_dataset(source, "study", options=ImportOptions(test_cases=("p5",)))
    found = check(dataset, workers=1)
    assert found.cases == 6
    assert rows(found) == [("warning", "zero_image", "p5")]


def test_a_training_case_without_labels_is_an_error(source: Path) -> None:
    dataset = import_dataset(source, "study", options=ImportOptions())
    bare = dataset.cases[0].model_copy(update={"labels": None})
    found = check(dataset.model_copy(update={"cases": (bare, *dataset.cases[1:])}), workers=1)
    assert rows(found) == [("error", "missing_labels", "p0")]


def test_report_survives_json_and_two_workers(source: Path) -> None:
    write_nifti(source / "labelsTr" / "p3.nii.gz", blob())
    dataset = import_dataset(source, "study", options=ImportOptions())
    found = check(dataset, workers=1)
    assert CheckReport.parse(found.to_json(), file="check.json") == found
    assert check(dataset, workers=2) == found
    assert found.dataset_digest == dataset.digest()


def test_source_of_an_image_is_a_file(source: Path) -> None:
    dataset = import_dataset(source, "study", options=ImportOptions())
    gone = FileSource(path=str(source / "imagesTr" / "gone.nii.gz"))
    broken = dataset.cases[0].model_copy(update={"images": {"CT": gone}})
    (problem,) = check(dataset.model_copy(update={"cases": (broken, *dataset.cases[1:])}), workers=1).problems
    assert (problem.severity, problem.case, problem.file) == ("error", "p0", gone.path)


def test_what_readers_note_is_passed_on_once() -> None:
    own = Look(notes=("channel CT: its unit is metres; converted to mm",))
    shared = {id: Look(notes=(f"channel PET: resampled (shape ({n}, 4, 5))",)) for n, id in enumerate("abc")}
    first, second = records({**shared, "d": own}).problems
    assert first.what == "channel PET: resampled (shape (0, 4, 5)) (so or similar in 3 of 4 cases: a, b, c)"
    assert (second.what, second.case) == (own.notes[0], "d")
    assert first.case is None


def facts(*quantiles: float) -> ScanFacts:
    return ScanFacts(dtype="int16", quantiles=quantiles)


def test_an_organ_of_ten_times_its_usual_size() -> None:
    looks = {f"c{n}": Look(volumes_ml={"organ": 100.0 + 20 * n, "tumour": 1.0}) for n in range(8)}
    looks["c7"] = Look(volumes_ml={"organ": 1700.0, "tumour": 1.0})
    (problem,) = records(looks).problems
    assert (problem.code, problem.case) == ("odd_volume", "c7")


def sided(left: float, right: float) -> Look:
    return Look(sides_mm={"organ": left, "tumour": right}, volumes_ml={"organ": 1.0, "tumour": 1.0})


def test_left_and_right_exchanged_in_one_case() -> None:
    looks = {f"c{n}": sided(140.0 + n, 60.0 - n) for n in range(7)} | {"c7": sided(62.0, 139.0)}
    (problem,) = records(looks).problems
    assert (problem.code, problem.case) == ("sides_exchanged", "c7")
    assert "exchanged against 7 other cases" in problem.what


@pytest.mark.parametrize("mixed", [[(40, 60), (60, 40)] * 4, [(50, 51), (51, 50)] * 4])
def test_data_that_show_no_order_of_sides_are_left_alone(mixed: list[tuple[float, float]]) -> None:
    assert records({f"c{n}": sided(*pair) for n, pair in enumerate(mixed)}).problems == ()


def test_sides_are_measured_in_the_patient_not_in_the_array(source: Path) -> None:
    dataset = import_dataset(source, "study", options=ImportOptions())
    case = dataset.cases[0]
    array, grid = files.read_volume(Path(case.files()[-1]))
    flipped = array[:, :, ::-1]
    write_nifti(source / "labelsTr" / "p0.nii.gz", flipped)
    write_nifti(source / "imagesTr" / "p0_0000.nii.gz", voxels(0)[:, :, ::-1])
    straight, other = (
        look_at(Task(item, dataset.channels, dataset.labels, ())).sides_mm for item in (dataset.cases[1], case)
    )
    assert straight
    assert other
    name = next(iter(straight))
    places = np.nonzero(flipped == 1)[2]
    assert other[name] == pytest.approx(float(grid.affine()[0] @ (0, 0, places.mean(), 1)))


def test_a_case_unlike_the_others_by_intensity_and_by_field_of_view() -> None:
    size = (300.0, 400.0, 400.0)
    usual = {f"c{n}": Look(facts=facts(-900, -500, 0, 40, 200, 400 + n), extent_mm=size) for n in range(7)}
    scaled = Look(facts=facts(100, 5000, 9000, 12000, 20000, 30000), extent_mm=(300.0, 400.0, 400.0))
    small = Look(facts=facts(-900, -500, 0, 40, 200, 400), extent_mm=(30.0, 40.0, 60.0))
    first, second = records({**usual, "d": scaled, "e": small}).problems
    assert (first.code, first.case, second.code, second.case) == ("unlike_others", "d", "unlike_others", "e")
    assert first.what == (
        "is unlike the other cases: its 25th percentile of intensity is 5000, in the median case -500"
    )
    assert "its field of view is 30 x 40 x 60 mm" in second.what


def test_one_person_by_name_in_two_groups() -> None:
    looks = {id: Look() for id in ("patient1_a", "patient1_b", "patient2_a", "patient2_b", "patient3_a")}
    (problem,) = records(looks).problems
    assert problem.code == "same_patient"
    assert "patient1_a and patient1_b, patient2_a and patient2_b speak for one person each" in problem.what
    together = {id: id[:8] for id in looks}
    assert records(looks, groups=together).problems == ()


def test_siblings_by_intensities_of_real_hippocampi(real_data: Path) -> None:
    """Ids 2k-1 and 2k are two sides of one head; every case is given a group of its own."""
    found = import_dataset(real_data / "Task04_Hippocampus", "h", options=ImportOptions(groups=r"(\d+)"))
    cases = found.cases[:60]
    looks = {case.id: look_at(Task(case, found.channels, found.labels, ())) for case in cases}
    numbers = {int(case.id.split("_")[1]) for case in cases}
    pairs = sum(number % 2 == 1 and number + 1 in numbers for number in numbers)
    rows = list(people.same_person(cases, looks))
    assert [row.code for row in rows] == ["sibling_scans"]
    assert int(rows[0].what.split()[0]) >= 0.8 * pairs > 8


def test_labels_where_the_image_is_empty(source: Path) -> None:
    array = voxels(0)
    array[:, :, :-1] = 0
    write_nifti(source / "imagesTr" / "p0_0000.nii.gz", array)
    problems = [(p.code, p.case) for p in checked(source).problems]
    assert ("labels_outside", "p0") in problems


def test_bad_cases_are_left_out_and_it_is_said(source: Path) -> None:
    (source / "imagesTr" / "p4_0000.nii.gz").write_bytes(b"<html>")
    dataset = import_dataset(source, "study", options=ImportOptions())
    found = check(dataset, workers=1)
    kept, report_ = leaving_out.without_bad(dataset, found)
    assert [case.id for case in kept.cases] == ["p0", "p1", "p2", "p3", "p5"]
    assert all("p4" not in (*fold.training, *fold.held_out) for fold in kept.folds)
    assert all(fold.held_out or fold.name == "all" for fold in kept.folds)
    assert kept.notes[-1].startswith("Warning: --skip-bad left out 1 cases: p4 (")
    assert report_.errors() == ()
    assert (report_.cases, report_.dataset_digest) == (5, kept.digest())
    assert leaving_out.without_bad(kept, report_) == (kept, report_)


def test_when_all_cases_are_bad_the_errors_stay(source: Path) -> None:
    for id in IDS:
        (source / "imagesTr" / f"{id}_0000.nii.gz").write_bytes(b"<html>")
    dataset = import_dataset(source, "study", options=ImportOptions())
    found = check(dataset, workers=1)
    assert leaving_out.without_bad(dataset, found) == (dataset, found)


def test_mr_of_another_scale_is_no_other_case() -> None:
    usual = {f"c{n}": Look(facts=facts(0, 10, 40, 60, 100 + n, 120)) for n in range(7)}
    scaled = Look(facts=facts(0, 4000, 16000, 24000, 40000, 48000))
    cases = tuple(Case(id=id, group=id, images={}) for id in (*usual, "d"))
    assert list(outliers.unlike_the_others(cases, {**usual, "d": scaled}, kind="mr")) == []
    assert [row.case for row in outliers.unlike_the_others(cases, {**usual, "d": scaled}, kind="ct")] == ["d"]


@pytest.fixture(scope="module")
def hippocampi(real_data: Path) -> dict[str, Look]:
    """Facts and field of view of all 200 scans."""
    looks = {}
    for path in sorted((real_data / "Task04_Hippocampus" / "imagesTr").glob("hipp*.nii.gz")):
        looks[path.name.removesuffix(".nii.gz")] = of(*files.read_volume(path))
    return looks


def of(array: np.ndarray, grid: Grid) -> Look:
    return Look(facts=facts_of(np.asarray(array, np.float32), dtype="float32"), extent_mm=grid.extent_mm())


def unlike(looks: dict[str, Look]) -> list[str | None]:
    cases = tuple(Case(id=id, group=id, images={}) for id in looks)
    return [row.case for row in outliers.unlike_the_others(cases, looks, kind="mr")]


def test_no_hippocampus_is_unlike_the_others(hippocampi: dict[str, Look]) -> None:
    assert len(hippocampi) == 200
    assert unlike(hippocampi) == []


@pytest.mark.parametrize(
    ("name", "by_intensities"),
    [
        ("ms_lesions/patient07/FLAIR.nii.gz", True),  # a whole head with air around it
        ("ms_lesions/patient07/lesions.nii.gz", True),
        ("cord_t2star/t2s_uncropped.nii.gz", False),
        ("totalsegmentator/s0001/ct.nii.gz", False),
    ],
)
def test_a_scan_of_something_else_among_hippocampi_is_found(
    real_data: Path, hippocampi: dict[str, Look], name: str, by_intensities: bool
) -> None:
    odd = of(*files.read_volume(real_data / name))
    assert unlike({**hippocampi, "odd": odd}) == ["odd"]
    if by_intensities:
        usual = next(iter(hippocampi.values()))
        assert unlike({**hippocampi, "odd": Look(facts=odd.facts, extent_mm=usual.extent_mm)}) == ["odd"]


def test_ct_without_its_offset_is_found_and_a_cut_to_the_body_is_not() -> None:
    size = (300.0, 400.0, 400.0)
    usual = {f"c{n}": Look(facts=facts(-1000, -900, -100, 40, 200, 400 + n), extent_mm=size) for n in range(7)}
    looks = {
        **usual,
        "offset": Look(facts=facts(24, 124, 924, 1064, 1224, 1424), extent_mm=size),
        "body": Look(facts=facts(-100, -60, 30, 60, 250, 420), extent_mm=size),
    }
    cases = tuple(Case(id=id, group=id, images={}) for id in looks)
    assert [row.case for row in outliers.unlike_the_others(cases, looks, kind="ct")] == ["offset"]


def test_more_or_less_air_around_a_head_makes_no_odd_case() -> None:
    """Where half of the voxels are air, a little more or less of it moves the median from air to tissue."""
    little = {f"c{n}": Look(facts=facts(0, 0, 0, 300, 400, 500 + n)) for n in range(9)}
    assert unlike({**little, "d": Look(facts=facts(0, 0, 150, 320, 400, 500))}) == []


def test_labels_in_the_place_of_an_image(source: Path) -> None:
    write_nifti(source / "imagesTr" / "p1_0000.nii.gz", blob(1, 2))
    (problem,) = [p for p in checked(source).problems if p.code == "few_values"]
    assert problem.case == "p1"
    assert problem.what == "channel CT holds only 3 different values, as labels do"


def test_all_pairs_of_hippocampus_are_found(hippocampi: dict[str, Look]) -> None:
    """Ids 2k-1 and 2k are the two sides of one head: 71 such pairs are among the 200."""
    numbers = {int(id[-3:]) for id in hippocampi}
    pairs = [(n, n + 1) for n in numbers if n % 2 and n + 1 in numbers]
    cases = tuple(Case(id=id, group=id, images={}) for id in hippocampi)
    (row,) = people.same_person(cases, hippocampi)
    assert len(pairs) == 71
    assert int(row.what.split()[0]) >= 0.95 * len(pairs)
