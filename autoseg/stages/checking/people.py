"""One person in two groups: told by names and by intensities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from autoseg.records.check import Problem
from autoseg.records.dataset import Case
from autoseg.stages.checking.looking import Look
from autoseg.stages.checking.rows import make_problem
from autoseg.stages.importing.groups import guess_from_names
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.siblings import alike, guess_from_images

MOST_NAMED = 4


def same_person(cases: Sequence[Case], looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn where names or images speak for one person whose scans are in several groups, so that folds may leak."""
    ids = [case.id for case in cases]
    groups = {case.id: case.group for case in cases}
    named = guess_from_names(ids)
    if named is not None:
        split = _split(named.groups, groups)
        if split:
            yield _row("same_patient", f"the names of {_listed(split)} speak for one person each", cases=split)
    facts = {id: look.facts for id in ids if id in looks and (look := looks[id]).facts is not None}
    known = {id: found for id, found in facts.items() if found is not None}
    paired = guess_from_images(ids, known)
    if paired is None:
        return
    pairs = [
        members
        for members in _split(paired.groups, groups)
        if len(members) == 2 and all(id in known for id in members) and alike(known[members[0]], known[members[1]])
    ]
    if pairs:
        what = f"{len(pairs)} pairs of scans look like one person's by data type and intensities: {_listed(pairs)}"
        yield _row("sibling_scans", what, cases=pairs)


def _split(people: Mapping[str, str], groups: Mapping[str, str]) -> list[list[str]]:
    """Return the cases of each person whose cases lie in more than one group."""
    members: dict[str, list[str]] = defaultdict(list)
    for id, person in people.items():
        members[person].append(id)
    return [found for found in members.values() if len({groups[id] for id in found}) > 1]


def _row(code: str, what: str, *, cases: Sequence[Sequence[str]]) -> Problem:
    return make_problem(
        "warning", code, f"{what}, but they are in different groups, so folds may leak",
        fix="If they are one person, import again and say so with --groups.",
        case=cases[0][-1] if len(cases) == 1 else None,
    )  # fmt: skip


def _listed(found: Sequence[Sequence[str]]) -> str:
    return enumerate_cases([" and ".join(members[:3]) for members in found], most=MOST_NAMED)
