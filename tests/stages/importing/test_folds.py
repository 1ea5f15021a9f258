from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.records.dataset import Case, Fold
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing import ImportOptions, import_dataset
from autoseg.stages.importing.folds import folds_by_value, make_folds, read_splits, write_splits
from tests.stages.importing import simple


def cases(groups: Sequence[str]) -> list[Case]:
    return [Case(id=f"c{n:03d}", group=group, images={}) for n, group in enumerate(groups)]


def single(count: int) -> list[Case]:
    return cases([f"p{n}" for n in range(count)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=60), st.integers(2, 7), st.integers(0, 3))
def test_every_group_is_held_out_whole_and_once(groups: list[int], count: int, seed: int) -> None:
    people = cases([str(group) for group in groups])
    folds = make_folds(people, None, count=count, seed=seed)
    *partition, everything = folds
    assert len(partition) == (min(count, len(set(groups))) if len(set(groups)) > 1 else 0)
    assert everything.training == tuple(case.id for case in people)
    assert everything.name == "all"
    held = sorted(id for fold in partition for id in fold.held_out)
    assert held == ([case.id for case in people] if partition else [])
    group = {case.id: case.group for case in people}
    for fold in partition:
        assert fold.held_out
        assert not {group[id] for id in fold.held_out} & {group[id] for id in fold.training}


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 80), st.integers(0, 5), st.data())
def test_sizes_differ_by_one_whatever_the_classes(count: int, seed: int, data: st.DataObject) -> None:
    presence = {c.id: frozenset(data.draw(st.sets(st.sampled_from("abc")))) for c in single(count)}
    sizes = [len(fold.held_out) for fold in make_folds(single(count), presence, seed=seed)[:-1]]
    assert max(sizes) - min(sizes) <= 1


def test_a_rare_class_is_in_every_fold() -> None:
    rare = {f"c{n:03d}": frozenset({"organ", "tumour"} if n < 5 else {"organ"}) for n in range(50)}
    for seed in range(5):
        folds = make_folds(single(50), rare, seed=seed)[:-1]
        assert [sum("tumour" in rare[id] for id in fold.held_out) for fold in folds] == [1] * 5


def test_attributes_are_spread() -> None:
    people = [
        case.model_copy(update={"attributes": {"site": "A" if n < 10 else "B"}}) for n, case in enumerate(single(20))
    ]
    folds = make_folds(people, None, seed=1)[:-1]
    assert [sum(id < "c010" for id in fold.held_out) for fold in folds] == [2] * 5


def test_order_does_not_count_and_the_seed_does() -> None:
    people = single(30)
    held = {frozenset(f.held_out) for f in make_folds(people, None, seed=3)}
    assert {frozenset(f.held_out) for f in make_folds(people[::-1], None, seed=3)} == held
    assert {frozenset(f.held_out) for f in make_folds(people, None, seed=4)} != held


def test_one_person_has_no_fold_but_all() -> None:
    assert [fold.name for fold in make_folds(cases(["p", "p", "p"]), None)] == ["all"]


def test_one_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="1 folds were asked for"):
        make_folds(single(5), None, count=1)


def test_splits_there_and_back(tmp_path: Path) -> None:
    folds = make_folds(single(12), None, count=3)
    write_splits(tmp_path / "splits_final.json", folds)
    assert read_splits(tmp_path / "splits_final.json", single(12)) == (folds, ())


def test_splits_that_tear_a_patient_apart_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["c000", "c002"], "val": ["c001"]}]))
    folds, notes = read_splits(path, cases(["p", "p", "q"]))
    assert folds[0] == Fold(name="0", training=("c000", "c002"), held_out=("c001",))
    assert notes[0].startswith("Warning: split 0 trains on scans of 1 patients that it holds out as well (p)")
    assert notes[1].startswith("Warning: 2 cases are held out never or more than once")


def test_skipped_cases_may_stand_in_the_splits(tmp_path: Path) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["c000", "gone"], "val": ["c001"]}]))
    assert read_splits(path, single(2), left_out=["gone"])[0][0].training == ("c000",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "is no list of"),
        ([{"train": ["c000"]}], "is no list of"),
        ([{"train": ["c000"], "val": ["zzz"]}], "names 1 cases that do not exist: zzz"),
        ([{"train": ["c000", "c001"], "val": ["c001"]}], "split 0 trains on 1 cases that it holds out"),
        ([{"train": ["c000"], "val": []}], "has no cases to train on or to hold out"),
    ],
)
def test_bad_splits(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=sentence) as caught:
        read_splits(path, single(2))
    assert caught.value.file == str(path)


@pytest.mark.parametrize("folds_by", ["sites.csv", "site"])
def test_sites_come_from_a_table_or_from_the_cases(tmp_path: Path, folds_by: str) -> None:
    simple.totalsegmentator(tmp_path / "data", {f"s{n}": ["liver"] for n in range(4)})
    (tmp_path / "sites.csv").write_text("case,site\ns0,Oslo\ns1,Rome\ns2,Rome\ns3,Oslo\n")
    if folds_by == "site":
        with pytest.raises(UsageError, match=r"4 of 4 cases have none .*a CSV table of case and value will do"):
            import_dataset(tmp_path / "data", "toy", options=ImportOptions(folds_by="site"))
        return
    options = ImportOptions(folds_by=str(tmp_path / folds_by))
    dataset = import_dataset(tmp_path / "data", "toy", options=options)
    assert [fold.held_out for fold in dataset.folds] == [("s0", "s3"), ("s1", "s2"), ()]
    assert any("holds out" in note and note.endswith("Oslo.") for note in dataset.notes)


def at(sites: Sequence[str], groups: Sequence[str] | None = None) -> tuple[list[Case], dict[str, str]]:
    people = cases(groups or [f"p{n}" for n in range(len(sites))])
    return people, {case.id: site for case, site in zip(people, sites, strict=True)}


def test_each_site_is_held_out_once() -> None:
    people, sites = at(["Rome", "Oslo", "Rome", "Bern", "Oslo"])
    folds, notes = folds_by_value(people, sites, "site")
    assert [fold.held_out for fold in folds] == [("c003",), ("c001", "c004"), ("c000", "c002"), ()]
    assert folds[0].training == ("c000", "c001", "c002", "c004")
    assert notes == ("Fold 0 holds out site Bern.", "Fold 1 holds out site Oslo.", "Fold 2 holds out site Rome.")


def test_a_patient_of_two_sites_is_not_trained_on_while_one_is_held_out() -> None:
    people, sites = at(["Rome", "Oslo", "Rome", "Oslo"], ["a", "a", "b", "c"])
    folds, _ = folds_by_value(people, sites, "site")
    assert (folds[0].held_out, folds[0].training) == (("c001", "c003"), ("c002",))
    assert (folds[1].held_out, folds[1].training) == (("c000", "c002"), ("c003",))


@pytest.mark.parametrize(
    ("sites", "groups", "sentence"),
    [
        (["Rome", "", ""], None, r"--folds-by site: 2 of 3 cases have none \(c001, c002\)"),
        (["Rome", "Rome"], None, "--folds-by site would make 1 folds"),
        ([str(n) for n in range(51)], None, "would make 51 folds"),
        (["Rome", "Oslo"], ["a", "a"], "every patient has a case of Oslo, so nobody is left to train on"),
    ],
)
def test_values_that_make_no_folds(sites: list[str], groups: list[str] | None, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        folds_by_value(*at(sites, groups), "site")
