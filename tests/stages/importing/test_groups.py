from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from autoseg.records.dataset import Case
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.groups import given_groups, guess_from_names, guess_siblings
from autoseg.stages.importing.siblings import ScanFacts, alike, guess_from_images


def cases(ids: Sequence[str]) -> list[Case]:
    return [Case(id=id, group=id, images={}) for id in ids]


def facts(level: float, dtype: str = "float32") -> ScanFacts:
    return ScanFacts(dtype, tuple(level * step for step in (0.1, 0.5, 1.0, 1.5, 1.9, 2.0)))


def test_pattern() -> None:
    grouping = given_groups(r"(\d+)_day", cases(["case12_day1", "case12_day2", "case3_day1"]))
    assert grouping.groups == {"case12_day1": "12", "case12_day2": "12", "case3_day1": "3"}
    assert grouping.confidence == 1


def test_arithmetic() -> None:
    assert given_groups("(id+1)//2", cases(["h_001", "h_002", "h_003"])).groups == {
        "h_001": "1",
        "h_002": "1",
        "h_003": "2",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "a,p1\nb,p1\nc,p2\n"),
        ("t.csv", "\ufeffgroup,case\np1,a\np1,b\np2,c\n"),
        ("t.json", '{"a": "p1", "b": "p1", "c": "p2", "unused": "p9"}'),
    ],
)
def test_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert given_groups(str(tmp_path / name), cases("abc")).groups == {"a": "p1", "b": "p1", "c": "p2"}


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("(", "is no regular expression"),
        ("abc", "has 0 groups instead of one"),
        ("(a)(b)", "has 2 groups instead of one"),
    ],
)
def test_bad_patterns(rule: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        given_groups(rule, cases("ab"))


def test_cases_without_a_group_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gives no group for 2 of 3 cases: b1, c1"):
        given_groups(r"(a\d)", cases(["a1", "b1", "c1"]))
    (tmp_path / "t.csv").write_text("a,p1\nb\n")
    with pytest.raises(DataError, match="row 2 has 1 cells"):
        given_groups(str(tmp_path / "t.csv"), cases("ab"))


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["patient01_1", "patient01_2", "patient02_1"], ["patient01", "patient01", "patient02"]),
        (["patient001_frame01", "patient001_frame12", "patient002_frame01"], ["patient001"] * 2 + ["patient002"]),
        (["caseA_dayB", "caseA_dayC", "caseD_dayB"], ["caseA", "caseA", "caseD"]),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], ["sub-01", "sub-01", "sub-02"]),
        (["x7_left", "x7_right", "x8_left"], ["x7", "x7", "x8"]),
    ],
)
def test_names_that_speak_of_people(ids: list[str], groups: list[str]) -> None:
    grouping = guess_from_names(ids)
    assert grouping is not None
    assert list(grouping.groups.values()) == groups
    assert "Confirm, or say otherwise with --groups" in grouping.how


def test_slices_of_one_scan_belong_together() -> None:
    ids = [f"SC-HF-I-{patient:02d}-{slice:04d}" for patient in range(6) for slice in range(3)]
    grouping = guess_from_names(ids)
    assert grouping is not None
    assert len(set(grouping.groups.values())) == 6


@pytest.mark.parametrize(
    "ids",
    [
        [f"hippocampus_{n:03d}" for n in range(9)],
        [f"BraTS20_Training_{n:03d}" for n in range(9)],
        [f"prostate_{n:02d}" for n in range(9)],
        [f"site{s}_{n:03d}" for s in (1, 2) for n in range(9)],
        [f"set1_train_{n}" for n in range(9)],
        [f"s{n:04d}" for n in range(9)],
    ],
)
def test_names_that_say_nothing(ids: list[str]) -> None:
    assert guess_from_names(ids) is None


def test_likeness_needs_type_and_intensities() -> None:
    assert alike(facts(100), facts(105))
    assert not alike(facts(100), facts(130))
    assert not alike(facts(100), facts(100, "uint8"))


@pytest.mark.parametrize(("first", "rule"), [(1, "(id+1)//2"), (0, "id//2")])
def test_pairs_of_numbers_that_look_alike(first: int, rule: str) -> None:
    ids = [f"h_{n:03d}" for n in range(first, first + 40)]
    measured = {id: facts(100 * 1.5 ** (place // 2)) for place, id in enumerate(ids)}
    grouping = guess_from_images(ids, measured)
    assert grouping is not None
    assert rule in grouping.how
    assert all(grouping.groups[ids[n]] == grouping.groups[ids[n + 1]] for n in range(0, 40, 2))
    assert len(set(grouping.groups.values())) == 20


def test_scans_that_all_look_alike_are_no_siblings() -> None:
    ids = [f"ct_{n:03d}" for n in range(40)]
    grouping = guess_siblings(cases(ids), {id: facts(100) for id in ids})
    assert grouping.groups == {id: id for id in ids}
    assert grouping.confidence == 0


def test_hippocampus_sides_are_found(real_data: Path) -> None:
    started = time.perf_counter()
    dataset = import_dataset(real_data / "Task04_Hippocampus", "hippocampus", options=ImportOptions())
    assert time.perf_counter() - started < 10
    assert all(case.group == str((int(case.id[-3:]) + 1) // 2) for case in dataset.cases)
    assert "group = (id+1)//2: 100% of 71 such pairs" in dataset.grouping
    assert [len(fold.held_out) for fold in dataset.folds] == [40, 40, 40, 40, 40, 0]
