"""One suite for all layouts, in every form: what is imported can be read, has safe names, and comes out the same twice.

A new layout is one line in `LAYOUTS`; its key begins with the name that the import must recognise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoseg.images.dicom.facts import read_facts
from autoseg.images.files import read_header
from autoseg.records.dataset import NAME_PATTERN, Case, Dataset, DicomSource, FileSource, SlicesSource
from autoseg.records.errors import DataError
from autoseg.stages import checking
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.scans import find_scans
from tests.stages.importing import dicom, published, simple, variants, writers

IDS = [f"scan{number}" for number in range(6)]
OTHER_IDS = {
    "hanseg": [f"case_{n:02d}" for n in range(1, 7)],
    "bids": [f"sub-{id}" for id in IDS],
    "gi_tract": [f"case{n}_day{day}" for n in (1, 2, 3) for day in (0, 20)],
    "gi_tract overlap": [f"case{n}_day{day}" for n in (1, 2, 3) for day in (0, 20)],
    "dicom": dicom.ids(range(6)),
}

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "nnunet": lambda folder: writers.nnunet(folder, IDS, channels=("CT", "PET")),
    "decathlon": lambda folder: writers.decathlon(folder, IDS),
    "hanseg": lambda folder: writers.hanseg(
        folder, {f"case_{n:02d}": ("Brainstem", "Cochlea_L", "Cochlea_R") for n in range(1, 7)}
    ),
    "totalsegmentator": lambda folder: simple.totalsegmentator(folder, {id: ("liver", "spleen") for id in IDS}),
    "dicom": lambda folder: dicom.studies(folder, range(6)),
    "pictures": lambda folder: simple.pictures(folder, IDS),
    "manifest": lambda folder: simple.manifest(folder, IDS),
    "bids": lambda folder: published.bids(folder, IDS),
    "datalist": lambda folder: published.datalist(folder, IDS),
    "gi_tract": lambda folder: published.gi_tract(
        folder, OTHER_IDS["gi_tract"], masks={"stomach": published.box(1), "small_bowel": published.box(4)}
    ),
    "nnunet v1": lambda folder: variants.nnunet_v1(folder, IDS),
    "nnunet regions": lambda folder: variants.nnunet_regions(folder, IDS),
    "nnunet listed": lambda folder: variants.nnunet_listed(folder, IDS),
    "nnunet pictures": lambda folder: variants.nnunet_pictures(folder, IDS),
    "totalsegmentator splits": lambda folder: variants.totalsegmentator_splits(folder, IDS),
    "pictures stacks": lambda folder: variants.stacks(folder, IDS),
    "pictures index": lambda folder: variants.pictures_index(folder, IDS),
    "pictures rgba": lambda folder: variants.pictures_rgba(folder, IDS),
    "pictures painted": lambda folder: variants.pictures_painted(folder, IDS),
    "volumes beside": lambda folder: variants.volumes_beside(folder, IDS),
    "volumes folders": lambda folder: variants.volumes_folders(folder, IDS),
    "volumes cases": lambda folder: variants.volumes_cases(folder, IDS),
    "manifest json": lambda folder: variants.manifest_json(folder, IDS),
    "datalist one": lambda folder: variants.datalist_one_image(folder, IDS),
    "gi_tract overlap": lambda folder: variants.gi_tract_overlap(folder, OTHER_IDS["gi_tract"]),
}


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def source(layout: str, tmp_path: Path) -> Path:
    return LAYOUTS[layout](tmp_path / "a folder, ünïcode")


@pytest.fixture
def dataset(source: Path) -> Dataset:
    return import_dataset(source, "study", options=ImportOptions())


def paths(case: Case) -> list[str]:
    return [path for path in case.files() if not path.endswith(".csv")]


def test_layout_is_recognised(dataset: Dataset, layout: str) -> None:
    assert dataset.layout == layout.partition(" ")[0]


def test_every_path_is_absolute_and_can_be_read(dataset: Dataset) -> None:
    for case in dataset.cases:
        assert len(paths(case)) > len(dataset.channels) - 1
        for path in paths(case):
            assert Path(path).is_absolute()
            _ = read_facts(Path(path)) if dataset.layout == "dicom" else read_header(Path(path))


def test_volumes_that_are_named_exist(dataset: Dataset) -> None:
    for case in dataset.cases:
        for item in case.images.values():
            if isinstance(item, DicomSource):
                continue  # a series is one volume
            assert isinstance(item, FileSource | SlicesSource)
            volume = item.volume or 0 if isinstance(item, FileSource) else 0
            assert all(volume < read_header(Path(path)).volumes for path in item.files())


def test_ids_are_safe_sorted_and_whole(dataset: Dataset, layout: str) -> None:
    ids = [case.id for case in dataset.cases]
    assert ids == sorted(ids)
    assert all(NAME_PATTERN.fullmatch(id) for id in ids)
    assert ids == OTHER_IDS.get(layout, IDS)


def test_channels_come_in_one_order(dataset: Dataset) -> None:
    names = [channel.name for channel in dataset.channels]
    assert all(list(case.images) == names for case in dataset.cases)


def test_folds_partition_the_cases_by_group(dataset: Dataset) -> None:
    held_out = [id for fold in dataset.folds if fold.name != "all" for id in fold.held_out]
    assert sorted(held_out) == [case.id for case in dataset.cases]
    assert dataset.fold("all").held_out == ()
    for fold in dataset.folds:
        groups = [{dataset.case(id).group for id in part} for part in (fold.training, fold.held_out)]
        assert not groups[0] & groups[1]


def test_record_survives_json(dataset: Dataset) -> None:
    assert Dataset.parse(dataset.to_json(), file="dataset.json") == dataset


def test_two_imports_give_the_same_bytes(dataset: Dataset, source: Path) -> None:
    assert import_dataset(source, "study", options=ImportOptions()).to_json() == dataset.to_json()


def test_source_is_left_as_it_was(source: Path) -> None:
    folder = source if source.is_dir() else source.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    import_dataset(source, "study", options=ImportOptions())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_links_to_another_disk_are_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(source)
    inner = tmp_path / "inner"
    inner.mkdir()
    for path in (source if source.is_dir() else source.parent).iterdir():
        (inner / path.name).symlink_to(path)
    direct = import_dataset(source, "study", options=ImportOptions())
    assert import_dataset(tmp_path / "linked", "study", options=ImportOptions()) == direct
    within = inner if source.is_dir() else inner / source.name
    assert len(import_dataset(within, "study", options=ImportOptions()).cases) == len(direct.cases)


def test_skipped_and_test_cases_leave_the_training(dataset: Dataset, source: Path) -> None:
    first, second, *rest = (case.id for case in dataset.cases)
    less = import_dataset(source, "study", options=ImportOptions(skip=(first,), test_cases=(second,)))
    assert [case.id for case in less.cases] == rest
    assert [case.id for case in less.test_cases] == [second]
    assert all(second not in fold.training + fold.held_out for fold in less.folds)
    assert any("left out as asked" in note for note in less.notes)


def test_structures_have_names_and_values_of_their_own(dataset: Dataset) -> None:
    names = [item.name for item in (*dataset.labels.structures, *dataset.labels.regions)]
    assert all(name.strip() for name in names)
    assert all(item.original > 0 for item in dataset.labels.structures)


def test_check_finds_no_error(dataset: Dataset) -> None:
    report = checking.check(dataset, workers=1)
    assert [problem.what for problem in report.errors()] == []
    assert report.cases == len(dataset.cases) + len(dataset.test_cases)


def root(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def test_a_missing_image_is_said(source: Path, dataset: Dataset) -> None:
    """By the import, or where a channel becomes optional, by the record; never by a traceback."""
    gone = Path(next(iter(dataset.cases[0].images.values())).files()[0])
    gone.unlink()
    try:
        again = import_dataset(source, "study", options=ImportOptions())
    except DataError as error:
        said = str(error)
        assert dataset.cases[0].id in said or gone.name in said
        assert "Traceback" not in said
    else:
        left_out = dataset.cases[0].id not in [case.id for case in again.cases]
        left_out |= dataset.layout == "dicom"  # nobody knows of the last slice of a series but by what is drawn on it
        assert any(channel.optional for channel in again.channels) or left_out
        assert again.notes != dataset.notes


def test_litter_and_notes_are_passed_over(source: Path, dataset: Dataset) -> None:
    for folder in {path.parent for path in root(source).rglob("*") if path.is_file()}:
        some = next(path for path in sorted(folder.iterdir()) if path.is_file())
        (folder / f"._{some.name}").write_bytes(b"litter")
        (folder / ".DS_Store").write_bytes(b"litter")
        (folder / "Thumbs.db").write_bytes(b"litter")
    (root(source) / "readme.txt").write_text("hello")
    assert import_dataset(source, "study", options=ImportOptions()) == dataset


def test_every_scan_is_found_again_for_prediction(dataset: Dataset, tmp_path: Path) -> None:
    """What was imported can be predicted from its images alone, under the names that they have."""
    case = dataset.cases[0]
    for source in case.images.values():
        for path in map(Path, source.files()):
            target = tmp_path / "scans" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(path)
    (scan,) = find_scans(tmp_path / "scans", dataset.channels)
    assert list(scan.images) == list(case.images)
    assert [source.kind for source in scan.images.values()] == [source.kind for source in case.images.values()]
