"""Folds: every patient is held out exactly once, and every fold sees every class where that is possible."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.records.dataset import Case, Fold
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.descriptions import read_json
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.storage import write_bytes

MOST_VALUES = 50

Presence = Mapping[str, frozenset[str]]


def make_folds(cases: Sequence[Case], presence: Presence | None, *, count: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """Return `count` folds, fewer when there are fewer groups, and the fold "all".

    Groups are dealt out one by one, those with the rarest classes first, each to the fold that has least of what it
    brings and still has room. Folds differ by one case at most when every group is one case. Nothing depends on the
    order of `cases`; chance is a hash of seed and group, so a case that is added moves few others.

    Args:
        cases: Of the data set without its test cases.
        presence: Case id -> names of the classes found or annotated in it, where known.
        count: How many folds, 2 or more.
        seed: Another seed deals differently.

    Raises:
        UsageError: `count` is below 2.

    Source:
        Greedy variant of iterative stratification, Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10.
    """
    if count < 2:
        raise UsageError(f"{count} folds were asked for", fix="Ask for 2 or more; the fold 'all' is always there.")
    groups = _tags_by_group(cases, presence or {})
    folds = min(count, len(groups))
    dealt = _deal(groups, folds, len(cases), seed) if folds > 1 else {}
    ids = [case.id for case in cases]
    partition = []
    for number in range(folds if folds > 1 else 0):
        held_out = {case.id for case in cases if dealt[case.group] == number}
        partition.append(_fold(str(number), ids, held_out))
    return (*partition, _fold("all", ids, set()))


def folds_by_value(
    cases: Sequence[Case], values: Mapping[str, str], what: str
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return a fold a value, which holds out all cases that have it, with "all", and which fold holds out what.

    A patient who has cases of several values is never trained on while one of them is held out.

    Args:
        cases: Of the data set without its test cases.
        values: Case id -> value, such as the site where it was taken.
        what: What the values are, for people.

    Raises:
        UsageError: A case has no value, there is only one, more than 50, or one whose fold leaves nothing to train on.
    """
    lacking = [case.id for case in cases if not values.get(case.id)]
    if lacking:
        known = sorted({name for case in cases for name in case.attributes})
        raise UsageError(
            f"--folds-by {what}: {len(lacking)} of {len(cases)} cases have none ({enumerate_cases(lacking)})",
            fix=f"The cases have {', '.join(known) or 'no attributes'}; a CSV table of case and value will do as well.",
            code="bad_folds",
        )
    there = sorted({values[case.id] for case in cases})
    if not 1 < len(there) <= MOST_VALUES:
        raise UsageError(
            f"--folds-by {what} would make {len(there)} folds: it has as many different values",
            fix=f"Give something that has 2 to {MOST_VALUES} values.",
            code="bad_folds",
        )
    folds = []
    for number, value in enumerate(there):
        patients = {case.group for case in cases if values[case.id] == value}
        training = tuple(case.id for case in cases if case.group not in patients)
        if not training:
            raise UsageError(
                f"--folds-by {what}: every patient has a case of {value}, so nobody is left to train on",
                fix="Use the ordinary folds.",
                code="bad_folds",
            )
        held_out = tuple(case.id for case in cases if values[case.id] == value)
        folds.append(Fold(name=str(number), training=training, held_out=held_out))
    notes = [f"Fold {number} holds out {what} {value}." for number, value in enumerate(there)]
    return (*folds, _fold("all", [case.id for case in cases], set())), tuple(notes)


def read_splits(
    path: Path, cases: Sequence[Case], *, left_out: Iterable[str] = ()
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds of an nnU-Net `splits_final.json` with "all", and warnings.

    Args:
        path: A list of `{"train": [...], "val": [...]}`.
        cases: Of the data set without its test cases.
        left_out: Ids that may stand in the file but take no part (skipped and test cases).

    Raises:
        DataError: The file is of another form, names cases that do not exist, or trains on what it holds out.
    """
    splits = read_json(path)
    if not isinstance(splits, list) or not splits or not all(_is_split(split) for split in splits):
        raise DataError(
            'is no list of {"train": [...], "val": [...]}',
            file=path,
            fix="Give a splits_final.json.",
            code="bad_splits",
        )
    ids, absent = [case.id for case in cases], set(left_out)
    folds = []
    for number, split in enumerate(splits):
        training, held_out = set(split["train"]) - absent, set(split["val"]) - absent
        _check_split(training, held_out, set(ids), number, path)
        folds.append(
            Fold(
                name=str(number),
                training=tuple(id for id in ids if id in training),
                held_out=tuple(id for id in ids if id in held_out),
            )
        )
    return (*folds, _fold("all", ids, set())), _warnings(folds, cases)


def listed_folds(held_out: Mapping[str, int | None], cases: Sequence[Case]) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds that a layout itself lists, numbered from 0, with "all", and what is odd about them.

    Args:
        held_out: Case id -> number of the fold that holds it out, None where none does.
        cases: Of the data set without its test cases.
    """
    ids = [case.id for case in cases]
    parts: dict[int, set[str]] = {}
    for id in ids:
        number = held_out.get(id)
        if number is not None:
            parts.setdefault(number, set()).add(id)
    if any(len(part) == len(ids) for part in parts.values()):
        return (_fold("all", ids, set()),), ("Warning: one fold holds out every case, so only the fold 'all' exists.",)
    folds = [_fold(str(place), ids, parts[number]) for place, number in enumerate(sorted(parts))]
    notes = [f"The {len(folds)} folds are those of the data set."]
    if sorted(parts) != list(range(len(parts))):
        notes.append(f"Its folds {', '.join(map(str, sorted(parts)))} are called 0 to {len(parts) - 1} here.")
    return (*folds, _fold("all", ids, set())), (*notes, *_warnings(folds, cases))


def write_splits(path: Path, folds: Sequence[Fold]) -> None:
    """Write the folds, without "all", as nnU-Net's `splits_final.json`."""
    splits = [{"train": list(f.training), "val": list(f.held_out)} for f in folds if f.name != "all"]
    write_bytes(path, (json.dumps(splits, indent=2) + "\n").encode())


def _fold(name: str, ids: Sequence[str], held_out: set[str]) -> Fold:
    return Fold(
        name=name,
        training=tuple(id for id in ids if id not in held_out),
        held_out=tuple(id for id in ids if id in held_out),
    )


def _tags_by_group(cases: Sequence[Case], presence: Presence) -> dict[str, Counter[str]]:
    """Return group -> how many of its cases carry each tag; the tag "" is carried by every case."""
    groups: dict[str, Counter[str]] = {}
    for case in cases:
        tags = groups.setdefault(case.group, Counter())
        tags[""] += 1
        tags.update(f"class {name}" for name in presence.get(case.id, case.annotated or ()))
        tags.update(f"{name} {value}" for name, value in case.attributes.items())
    return groups


def _deal(groups: Mapping[str, Counter[str]], folds: int, cases: int, seed: int) -> dict[str, int]:
    """Return group -> fold number."""
    totals: Counter[str] = Counter()
    for tags in groups.values():
        totals.update(tags)
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    dealt: dict[str, int] = {}
    waiting = sorted(groups, key=lambda g: (min(totals[t] for t in groups[g]), -groups[g][""], _chance(seed, g)))
    for place, group in enumerate(waiting):
        tags = groups[group]
        room = _with_room([fold[""] for fold in held], tags[""], cases, waiting=len(waiting) - place)
        cost = {f: sum(held[f][tag] * number / totals[tag] for tag, number in tags.items()) for f in room}
        chosen = min(room, key=lambda f: (round(cost[f], 9), held[f][""], f))
        held[chosen].update(tags)
        dealt[group] = chosen
    return dealt


def _with_room(sizes: Sequence[int], size: int, cases: int, *, waiting: int) -> list[int]:
    """Return the folds that may take a group of `size` cases so that in the end all are nearly equal."""
    empty = [fold for fold, held in enumerate(sizes) if held == 0]
    if empty and len(empty) >= waiting:
        return empty
    small, large_folds = divmod(cases, len(sizes))
    already_large = sum(held > small for held in sizes)
    limit = small + 1 if already_large < large_folds else small
    room = [fold for fold, held in enumerate(sizes) if held + size <= limit]
    return room or [fold for fold, held in enumerate(sizes) if held == min(sizes)]


def _chance(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()


def _is_split(split: Any) -> bool:
    return isinstance(split, dict) and all(
        isinstance(split.get(part), list) and all(isinstance(id, str) for id in split[part])
        for part in ("train", "val")
    )


def _check_split(training: set[str], held_out: set[str], ids: set[str], number: int, path: Path) -> None:
    unknown = (training | held_out) - ids
    if unknown:
        raise DataError(
            f"split {number} names {len(unknown)} cases that do not exist: {enumerate_cases(sorted(unknown))}",
            file=path,
            fix="Correct the ids, or leave --splits away.",
            code="bad_splits",
        )
    both = training & held_out
    if both or not training or not held_out:
        what = f"trains on {len(both)} cases that it holds out" if both else "has no cases to train on or to hold out"
        raise DataError(f"split {number} {what}", file=path, fix="Correct the split.", code="bad_splits")


def _warnings(folds: Sequence[Fold], cases: Sequence[Case]) -> tuple[str, ...]:
    notes = []
    group = {case.id: case.group for case in cases}
    for fold in folds:
        torn = {group[id] for id in fold.training} & {group[id] for id in fold.held_out}
        if torn:
            notes.append(
                f"Warning: split {fold.name} trains on scans of {len(torn)} patients that it holds out as well "
                f"({enumerate_cases(sorted(torn))}); its scores will be too good."
            )
    times = Counter(id for fold in folds for id in fold.held_out)
    odd = [id for id in group if times[id] != 1]
    if odd:
        notes.append(f"Warning: {len(odd)} cases are held out never or more than once ({enumerate_cases(odd)}).")
    return tuple(notes)
