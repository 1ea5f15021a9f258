"""Comparing the cases of a data set: what no case shows by itself."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence

from autoseg.records.check import CheckReport, Problem
from autoseg.records.dataset import Case, Dataset
from autoseg.stages.checking import outliers, people
from autoseg.stages.checking.looking import Look
from autoseg.stages.checking.rows import make_problem
from autoseg.stages.importing.listing import enumerate_cases

FEWEST_TO_COMPARE = 5
ODD_VOLUME_RATIO = 8.0  # with a margin, so that an organ of ten times its usual size is found
ODD_SPACING_RATIO = 4.0
NUMBERS = re.compile(r"\(.*\)|[-+\d.,]+")


def report(dataset: Dataset, looks: Mapping[str, Look]) -> CheckReport:
    """Return the report: problems of the data set first, then those of each case in the data set's order."""
    training = {case.id: looks[case.id] for case in dataset.cases if case.id in looks}
    everyone = [*dataset.cases, *dataset.test_cases]
    across = [
        *_nothing_to_learn(dataset, training),
        *_class_warnings(dataset, training),
        *_duplicates(everyone, looks),
        *_odd_volumes(dataset, training),
        *_odd_spacings(everyone, looks),
        *outliers.exchanged_sides(training),
        *outliers.unlike_the_others(everyone, looks, kind=dataset.channels[0].kind),
        *people.same_person(everyone, looks),
        *_remarks(everyone, looks),
    ]
    place = {case.id: number for number, case in enumerate(everyone)}
    single = [problem for case in everyone if case.id in looks for problem in looks[case.id].problems]
    ordered = sorted([*across, *single], key=lambda p: place.get(p.case, -1) if p.case else -1)
    return CheckReport(dataset=dataset.name, dataset_digest=dataset.digest(), cases=len(looks), problems=tuple(ordered))


def _nothing_to_learn(dataset: Dataset, looks: Mapping[str, Look]) -> Iterator[Problem]:
    measured = [look.volumes_ml for look in looks.values() if look.volumes_ml is not None]
    if measured and not any(volume > 0 for volumes in measured for volume in volumes.values()):
        yield make_problem(
            "error", "all_labels_empty", f"none of {len(measured)} label maps holds a structure: nothing to learn",
            fix="Check that the label files are the right ones and that dataset.json names their values.",
        )  # fmt: skip


def _class_warnings(dataset: Dataset, looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn of structures that are in no case, or in fewer groups than there are folds.

    Cases that could not be read are given the benefit of the doubt: their errors are reported already.
    """
    folds = sum(fold.name != "all" for fold in dataset.folds)
    volumes = {case.id: looks[case.id].volumes_ml or {} for case in dataset.cases if case.id in looks}
    unread = len({case.group for case in dataset.cases if case.id in looks and looks[case.id].volumes_ml is None})
    if not any(volume > 0 for found in volumes.values() for volume in found.values()):
        return
    for item in dataset.labels.structures:
        groups = {case.group for case in dataset.cases if volumes.get(case.id, {}).get(item.name, 0.0) > 0}
        if not groups:
            yield make_problem(
                "warning", "class_missing", f"{item.name!r} (value {item.original}) is found in no case",
                fix="It will never be predicted. Check the value, or take the name out of the labels.",
            )  # fmt: skip
        elif len(groups) + unread < folds:
            yield make_problem(
                "warning", "rare_class", f"{item.name!r} is found in {len(groups)} groups, but there are {folds} folds",
                fix="Some folds cannot be scored for it; import with fewer folds, or read its scores with care.",
            )  # fmt: skip


def _duplicates(cases: Sequence[Case], looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn of cases whose voxels are the same; worst when they belong to different groups."""
    first: dict[str, Case] = {}
    for case in cases:
        digest = looks[case.id].digest if case.id in looks else None
        if digest is None:
            continue
        other = first.setdefault(digest, case)
        if other is case:
            continue
        apart = "" if other.group == case.group else " although their groups differ, so folds may leak"
        yield make_problem(
            "warning", "duplicate_image", f"has the same voxels as {other.id}{apart}",
            fix=f"Leave one out with --skip {case.id}, or put both in one group with --groups.", case=case.id,
        )  # fmt: skip


def _odd_volumes(dataset: Dataset, looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn of structures far from their median volume, more so where volumes vary much anyway."""
    for item in dataset.labels.structures:
        volumes = {id: (look.volumes_ml or {}).get(item.name, 0.0) for id, look in looks.items()}
        present = {id: volume for id, volume in volumes.items() if volume > 0}
        if len(present) < FEWEST_TO_COMPARE:
            continue
        median = statistics.median(present.values())
        steps = {id: abs(math.log(volume / median)) for id, volume in present.items()}
        # Eight median deviations of the logarithm leave lesions alone, whose volumes span orders of magnitude.
        limit = max(math.log(ODD_VOLUME_RATIO), 8 * statistics.median(steps.values()))
        for id, step in steps.items():
            if step > limit:
                yield make_problem(
                    "warning", "odd_volume",
                    f"{item.name!r} measures {present[id]:.3g} ml, in the median case {median:.3g} ml",
                    fix="Look at the labels; stray voxels and a wrong spacing are the usual causes.", case=id,
                )  # fmt: skip


def _odd_spacings(cases: Sequence[Case], looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Warn of scans whose voxel is several times larger or smaller than the data set's median."""
    known = {case.id: found for case in cases if case.id in looks and (found := looks[case.id].spacing_mm)}
    if len(known) < FEWEST_TO_COMPARE:
        return
    size = {id: math.prod(spacing) ** (1 / 3) for id, spacing in known.items()}
    median = statistics.median(size.values())
    for id, edge in size.items():
        if max(edge / median, median / edge) > ODD_SPACING_RATIO:
            words = " x ".join(f"{step:.3g}" for step in known[id])
            yield make_problem(
                "warning", "odd_spacing", f"voxels of {words} mm (z, y, x) are unlike those of the other cases",
                fix="Check the spacing in the header.", case=id,
            )  # fmt: skip


def _remarks(cases: Sequence[Case], looks: Mapping[str, Look]) -> Iterator[Problem]:
    """Pass on what the readers noted: notes that differ by numbers alone are one row, with the first as example."""
    notes: dict[str, dict[str, str]] = {}
    for case in cases:
        for note in looks[case.id].notes if case.id in looks else ():
            notes.setdefault(NUMBERS.sub("", note), {}).setdefault(case.id, note)
    for owners in notes.values():
        first, note = next(iter(owners.items()))
        shared = f" (so or similar in {len(owners)} of {len(cases)} cases: {enumerate_cases(list(owners))})"
        yield make_problem(
            "warning", "reader_note", note + (shared if len(owners) > 1 else ""),
            fix="Nothing to do if that is right.", case=first if len(owners) == 1 else None,
        )  # fmt: skip
