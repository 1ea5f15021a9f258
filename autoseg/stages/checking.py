"""Checking: every problem of a data set at once, in words, before anything is computed.

Each case is read once, exactly as training and prediction read it; what a reader refuses is an error, what it accepts
and a person should look at is a warning. Only a few numbers of each case are kept.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from autoseg.records.check import CheckReport, Problem
from autoseg.records.dataset import Case, Channel, Correction, Dataset, FileSource, Source
from autoseg.records.errors import UserError
from autoseg.records.geometry import Grid, Triple
from autoseg.records.labels import Labels
from autoseg.records.volumes import Image

Severity = Literal["error", "warning"]

FEWEST_TO_COMPARE = 5
ODD_VOLUME_RATIO = 50.0
ODD_SPACING_RATIO = 4.0
LARGEST_FIELD_MM = 2500.0


@dataclass(frozen=True)
class Task:
    """What a worker needs to look at one case."""

    case: Case
    channels: tuple[Channel, ...]
    labels: Labels
    corrections: tuple[Correction, ...]


@dataclass(frozen=True)
class Look:
    """What is kept of one case.

    Attributes:
        problems: Of this case alone.
        digest: Of the image's voxels, or None when it could not be read.
        spacing_mm: Along (z, y, x), or None.
        volumes_ml: Volume of each structure, by name, of those that were annotated; None when there are no readable
            labels.
    """

    problems: tuple[Problem, ...] = ()
    digest: str | None = None
    spacing_mm: Triple | None = None
    volumes_ml: Mapping[str, float] | None = None


def check(dataset: Dataset, *, workers: int | None = None) -> CheckReport:
    """Return every problem of a data set; reads each case once and changes nothing.

    Args:
        dataset: As imported; its test cases are read as well, but only for faults.
        workers: How many processes, or None for as many as there are cores.
    """
    from autoseg.compute.workers import map_cases

    everyone = (*dataset.cases, *dataset.test_cases)
    tasks = [(case.id, Task(case, dataset.channels, dataset.labels, dataset.corrections)) for case in everyone]
    looks: dict[str, Look] = {}
    for id, result in map_cases(look_at, tasks, workers=workers, label="checking"):
        looks[id] = Look(problems=(_failure(id, result),)) if isinstance(result, UserError) else result
    return report(dataset, looks)


def look_at(task: Task) -> Look:
    """Return what one case shows: faults of its files, and the few numbers that cases are compared by."""
    image = _read_image(task)
    found = [image] if isinstance(image, Problem) else list(_image_warnings(task, image))
    grid = image.grid if isinstance(image, Image) else _header_grid(task)
    volumes: dict[str, float] | None = None
    if task.case.labels is None:
        found.append(_unlabelled(task.case))
    elif grid is not None:
        labels = _measure_labels(task, task.case.labels, grid)
        if isinstance(labels, Problem):
            found.append(labels)
        else:
            volumes = labels
            found += _empty_labels(task, volumes)
    return Look(
        problems=tuple(found),
        digest=_digest(image) if isinstance(image, Image) else None,
        spacing_mm=grid.spacing_mm if grid is not None else None,
        volumes_ml=volumes,
    )


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
    ]
    place = {case.id: number for number, case in enumerate(everyone)}
    single = [problem for case in everyone if case.id in looks for problem in looks[case.id].problems]
    ordered = sorted([*across, *single], key=lambda p: place.get(p.case, -1) if p.case else -1)
    return CheckReport(dataset=dataset.name, dataset_digest=dataset.digest(), cases=len(looks), problems=tuple(ordered))


def _read_image(task: Task) -> Image | Problem:
    from autoseg.images.cases import read_image

    try:
        return read_image(task.case.images, task.channels, task.corrections, case=task.case.id)
    except UserError as error:
        return _failure(task.case.id, error)


def _header_grid(task: Task) -> Grid | None:
    """Return the grid of the first channel's header, so that labels are checked even when the voxels are bad."""
    from autoseg.images.files import read_header

    source = next((task.case.images[c.name] for c in task.channels if c.name in task.case.images), None)
    try:
        return read_header(Path(source.path)).grid if isinstance(source, FileSource) else None
    except UserError:
        return None


def _measure_labels(task: Task, source: Source, grid: Grid) -> dict[str, float] | Problem:
    """Return the volume in ml of each annotated structure."""
    from autoseg.images.cases import read_labels

    try:
        array = read_labels(source, task.labels, grid, case=task.case.id, corrections=task.corrections).array
    except UserError as error:
        return _failure(task.case.id, error)
    counts = np.bincount(array.ravel(), minlength=len(task.labels.structures) + 1)
    annotated = task.case.annotated
    return {
        item.name: float(counts[item.value]) * grid.voxel_ml()
        for item in task.labels.structures
        if annotated is None or item.name in annotated
    }


def _image_warnings(task: Task, image: Image) -> Iterator[Problem]:
    for channel, voxels in zip(task.channels, image.array, strict=True):
        source = task.case.images.get(channel.name)
        if source is None:
            continue
        low, high = float(voxels.min()), float(voxels.max())
        if low != high:
            continue
        code, what = ("zero_image", "is zero everywhere") if low == 0 else ("constant_image", f"is {low:g} everywhere")
        yield _problem(
            "warning", code, f"channel {channel.name} {what}: there is nothing to see",
            fix="Look at the scan; leave the case out with --skip if it is broken.",
            case=task.case.id, file=_path(source),
        )  # fmt: skip
    extent = image.grid.extent_mm()
    if max(extent) > LARGEST_FIELD_MM:
        yield _problem(
            "warning", "odd_field_of_view", f"the field of view is {max(extent) / 1000:.1f} m long",
            fix="Check the spacing in the header; it should be in mm.", case=task.case.id,
        )  # fmt: skip


def _empty_labels(task: Task, volumes: Mapping[str, float]) -> list[Problem]:
    """Warn of a label map without a voxel, and of masks that are there but empty."""
    empty = [name for name, volume in volumes.items() if volume == 0]
    fix = "Nothing to do if that is so: the case is kept and teaches where there is none."
    if len(empty) == len(volumes):
        file = _path(task.case.labels)
        what = "no structure is labelled"
        return [_problem("warning", "empty_labels", what, fix=fix, case=task.case.id, file=file)]
    if empty and task.case.annotated is not None:
        what = f"masks without a voxel of their own (empty, or covered by others): {_some(empty)}"
        return [_problem("warning", "empty_mask", what, fix=fix, case=task.case.id)]
    return []


def _unlabelled(case: Case) -> Problem:
    fix = "Add them, or leave the case out with --skip."
    return _problem("error", "missing_labels", "there are no labels", fix=fix, case=case.id)


def _nothing_to_learn(dataset: Dataset, looks: Mapping[str, Look]) -> Iterator[Problem]:
    measured = [look.volumes_ml for look in looks.values() if look.volumes_ml is not None]
    if measured and not any(volume > 0 for volumes in measured for volume in volumes.values()):
        yield _problem(
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
            yield _problem(
                "warning", "class_missing", f"{item.name!r} (value {item.original}) is found in no case",
                fix="It will never be predicted. Check the value, or take the name out of the labels.",
            )  # fmt: skip
        elif len(groups) + unread < folds:
            yield _problem(
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
        yield _problem(
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
                yield _problem(
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
            yield _problem(
                "warning", "odd_spacing", f"voxels of {words} mm (z, y, x) are unlike those of the other cases",
                fix="Check the spacing in the header.", case=id,
            )  # fmt: skip


def _digest(image: Image) -> str:
    summary = hashlib.sha256(str(image.array.shape).encode())
    summary.update(np.ascontiguousarray(image.array).data)
    return summary.hexdigest()


def _failure(case: str, error: UserError) -> Problem:
    return _problem("error", error.code, error.what, fix=error.fix, case=error.case or case, file=error.file)


def _problem(
    severity: Severity, code: str, what: str, *, fix: str, case: str | None = None, file: str | None = None
) -> Problem:
    return Problem(severity=severity, code=code, case=case, file=file, what=what, fix=fix)


def _path(source: Source | None) -> str | None:
    return source.path if isinstance(source, FileSource) else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
