"""The layout of the UW-Madison GI tract images: a folder of slices a scan, all labels as run lengths in one table.

`train/case123/case123_day20/scans/slice_0001_266_266_1.50_1.50.png` (width, height, pixel spacing x and y in mm) and
`train.csv` with the columns id, class, segmentation. Source: the data page of the Kaggle competition "UW-Madison GI
Tract Image Segmentation" (2022), which does not say how far the slices lie apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from autoseg.records.dataset import Case, Channel, Combination, RunLengthSource, SlicesSource
from autoseg.records.errors import DataError
from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels, Region
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import check_ids, enumerate_cases
from autoseg.stages.importing.structures import make_labels

SLICE = re.compile(r"slice_(\d+)_(\d+)_(\d+)_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)\.png", re.IGNORECASE)
ROW = re.compile(r"(case\w+_day\w+)_slice_(\d+)")
SCANS = "case*/case*_day*/scans"
SLICE_SPACING_MM = 3.0
Classes = tuple[str, ...]


@dataclass
class Annotation:
    """What the table says of one scan: its rows, and every set of classes that some pixel has."""

    rows: set[tuple[int, str]] = field(default_factory=set)
    found: set[Classes] = field(default_factory=set)


@dataclass(frozen=True)
class Scan:
    """The slices of one scan from z = 0 up, and the number of the first."""

    images: SlicesSource
    first: int


def recognise(source: Path) -> bool:
    """Return whether there are `train.csv` and scans named as the data set names them."""
    return (source / "train.csv").is_file() and any((source / "train").glob(SCANS))


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the folder holds; no picture is opened.

    Raises:
        DataError: Slices are missing or differ in size, the table cannot be read, or scans lack rows in it (all are
            listed).
    """
    folders = {folder.parent.name: folder for folder in sorted((source / "train").glob(SCANS))}
    skipped = frozenset(options.skip) & folders.keys()
    scans = {id: _scan(folder, id) for id, folder in sorted(folders.items()) if id not in skipped}
    check_ids(scans, file=source / "train")
    table = source / "train.csv"
    said, classes = _read_table(table, set(scans))
    _check_complete(scans, said, classes, table)
    together = {found for id in scans for found in said[id].found}
    labels, combinations = _labels(classes, together)
    cases = tuple(
        Case(
            id=id,
            group=id.partition("_")[0],
            images={"MR": scan.images},
            labels=RunLengthSource(path=str(table), prefix=f"{id}_slice_", first=scan.first, combinations=combinations),
        )
        for id, scan in scans.items()
    )
    return Draft(
        channels=(Channel(name="MR", kind="mr"),),
        labels=labels,
        cases=cases,
        notes=_notes(combinations, labels),
        skipped=skipped,
        grouping=Grouping({case.id: case.group for case in cases}, "One patient a caseN, as published.", 1.0),
        presence={id: _present(said[id].found, combinations, labels) for id in scans},
    )


def sliced_scans(files: Sequence[Path]) -> dict[str, SlicesSource]:
    """Return id -> slices of the scans that these files are named as slices of.

    The id is the name of the folder, or of the one above where the folder is called `scans`.
    """
    folders = sorted({path.parent for path in files if SLICE.fullmatch(path.name)})
    named = {(folder.parent if folder.name.lower() == "scans" else folder).name: folder for folder in folders}
    return {id: _scan(folder, id).images for id, folder in named.items()}


def _scan(folder: Path, id: str) -> Scan:
    named = {path: SLICE.fullmatch(path.name) for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
    slices = sorted((int(match[1]), path, match) for path, match in named.items() if match)
    numbers = [number for number, _, _ in slices]
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        what = next((_gap(a, b) for a, b in pairwise(numbers) if b != a + 1), "holds no slice")
        raise DataError(
            what,
            case=id,
            file=folder,
            fix=f"Copy the slices again, or leave the scan out with --skip {id}.",
            code="missing_slice",
        )
    looks = {match.group(2, 3, 4, 5) for _, _, match in slices}
    if len(looks) > 1:
        words = " and ".join("_".join(look) for look in sorted(looks)[:2])
        raise DataError(
            f"slices differ in size or spacing: {words}",
            case=id,
            file=folder,
            fix=f"A scan has one size; correct it, or leave it out with --skip {id}.",
            code="slice_mismatch",
        )
    (_, _, x, y) = looks.pop()
    spacing: Triple = (SLICE_SPACING_MM, float(y), float(x))
    return Scan(SlicesSource(paths=tuple(str(path) for _, path, _ in slices), spacing_mm=spacing), numbers[0])


def _gap(one: int, other: int) -> str:
    return f"slice {one:04d} is there twice" if one == other else f"slice {one + 1:04d} is missing"


def _read_table(table: Path, ids: set[str]) -> tuple[dict[str, Annotation], Classes]:
    """Return scan -> what the table says of it, and all classes by name."""
    from autoseg.images.slices import read_rows

    said = {id: Annotation() for id in ids}
    slices: dict[tuple[str, int], dict[str, str]] = {}
    classes: set[str] = set()
    for id, name, text in read_rows(table):
        match = ROW.fullmatch(id)
        if not match:
            raise DataError(
                f"row {id!r} is not understood",
                file=table,
                fix="Ids are caseN_dayN_slice_NNNN.",
                code="bad_table",
            )
        classes.add(name)
        if match[1] not in said:
            continue
        number = int(match[2])
        if (number, name) in said[match[1]].rows:
            raise DataError(f"has two rows for {id} and {name}", file=table, fix="Keep one.", code="bad_table")
        said[match[1]].rows.add((number, name))
        if text:
            slices.setdefault((match[1], number), {})[name] = text
    for (scan, number), texts in slices.items():
        said[scan].found |= _combinations(texts, file=table, id=f"{scan}_slice_{number:04d}")
    return said, tuple(sorted(classes))


def _combinations(texts: Mapping[str, str], *, file: Path, id: str) -> set[Classes]:
    """Return every set of classes that some pixel of a slice has, from the ends of the runs alone."""
    from autoseg.images.slices import read_runs

    names = sorted(texts)
    runs = [read_runs(texts[name], file=file, id=id) for name in names]
    ends = np.unique(np.concatenate([run.ravel() for run in runs]))  # between two of them nothing changes
    inside = [
        np.searchsorted(np.sort(run[:, 0]), ends, "right") > np.searchsorted(np.sort(run[:, 1]), ends, "right")
        for run in runs
    ]
    patterns = {tuple(bool(flag) for flag in column) for column in np.stack(inside, axis=1)}
    sets = {tuple(name for name, there in zip(names, pattern, strict=True) if there) for pattern in patterns}
    return sets - {()}


def _check_complete(scans: Mapping[str, Scan], said: Mapping[str, Annotation], classes: Classes, table: Path) -> None:
    wrong = []
    for id, scan in scans.items():
        count = len(scan.images.paths)
        wanted = {(number, name) for number in range(scan.first, scan.first + count) for name in classes}
        if said[id].rows != wanted:
            wrong.append(f"{id} ({len(said[id].rows)} rows for {count} slices)")
    if wrong or not classes:
        raise DataError(
            f"{len(wrong)} of {len(scans)} scans do not have a row for each slice and class "
            f"({', '.join(classes) or 'there is none'}): {enumerate_cases(wrong)}",
            file=table,
            fix="An absent class is a row with nothing in segmentation. Add the rows, or use --skip.",
            code="missing_labels",
        )


def _labels(classes: Classes, together: set[Classes]) -> tuple[Labels, tuple[Combination, ...]]:
    """Return plain structures, or, where classes overlap, one structure a combination and one region a class."""
    overlaps = sorted((found for found in together if len(found) > 1), key=lambda found: (len(found), found))
    if not overlaps:
        plain = tuple(Combination(classes=(name,), value=value) for value, name in enumerate(classes, start=1))
        return make_labels(dict(enumerate(classes, start=1))), plain
    sets = [*((name,) for name in classes), *overlaps]
    combinations = tuple(Combination(classes=found, value=value) for value, found in enumerate(sets, start=1))
    names = {item.value: "_and_".join(item.classes) + "_only" * (len(item.classes) == 1) for item in combinations}
    regions = tuple(
        Region(name=name, values=tuple(item.value for item in combinations if name in item.classes), original=number)
        for number, name in enumerate(classes, start=1)
    )
    return make_labels(names).model_copy(update={"regions": regions}), combinations


def _present(found: set[Classes], combinations: Sequence[Combination], labels: Labels) -> frozenset[str]:
    names = {item.value: item.name for item in labels.structures}
    return frozenset(names[item.value] for item in combinations if item.classes in found)


def _notes(combinations: Sequence[Combination], labels: Labels) -> tuple[str, ...]:
    notes = [f"The pictures do not say how far slices lie apart; {SLICE_SPACING_MM:g} mm were taken."]
    if labels.regions:
        words = ", ".join(" with ".join(item.classes) for item in combinations if len(item.classes) > 1)
        notes.append(
            f"Classes overlap ({words}), so each class is a region of its own; a prediction is one label map, where "
            f"the later of {', '.join(region.name for region in labels.regions)} is painted over the earlier."
        )
    return tuple(notes)
