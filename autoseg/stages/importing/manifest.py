"""A manifest: one CSV or JSON file with a row a case, for data that lie in no layout.

Columns: `case`, `patient` (may be missing), `image:<channel>` one a channel, `label`. Paths count from the manifest's
folder and stay in it; absolute paths are taken as they are. JSON holds the rows as a list of objects, or as
`{"cases": [...], "labels": {"liver": 1}, "channels": {"T1": "mr"}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.records.dataset import Case, Channel, FileSource, check_name
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError, UserError
from autoseg.records.labels import Labels
from autoseg.stages.importing.channels import guess_kind, with_kinds, with_optional
from autoseg.stages.importing.descriptions import read_json
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.listing import listed_file
from autoseg.stages.importing.structures import read_structures
from autoseg.stages.importing.tables import read_table
from autoseg.stages.importing.unnamed import name_structures

PREFIX = "image:"


@dataclass(frozen=True)
class Row:
    """One case as it is written.

    Attributes:
        place: Where it stands, for messages.
        cells: Column -> text.
        surplus: How many cells have no column.
    """

    place: str
    cells: Mapping[str, str]
    surplus: int = 0


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; `labels` and `kinds` are empty where it is a table."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    labels: Any = None
    kinds: Mapping[str, str] | None = None


def recognise(source: Path) -> bool:
    """Return whether the file is a table with a column `case`, or a JSON list of such rows."""
    if not source.is_file():
        return False
    try:
        return "case" in _read(source).columns
    except DataError:
        # A damaged table is still a table: reading it says what is wrong.
        return source.suffix.lower() == ".csv"


def read(source: Path, options: ImportOptions) -> Draft:
    """Return what the manifest lists.

    Raises:
        DataError: A column is missing, or rows are wrong (all are listed, each with its reason).
    """
    manifest = _read(source)
    kinds = {**(manifest.kinds or {}), **options.channel_kinds}
    columns = _channel_columns(manifest, kinds, source)
    rows = [row for row in manifest.rows if row.cells.get("case") not in options.skip]
    skipped = {row.cells["case"] for row in manifest.rows if row.cells.get("case") in options.skip}
    if not rows:
        raise DataError("lists no case", file=source, fix="Add a row a case.", code="no_cases")
    channels = with_optional([Channel(name=name, kind=guess_kind(name)) for name in columns], options.optional)
    needed = [columns[channel.name] for channel in channels if not channel.optional]
    _check_rows(rows, ["case", *needed, "label", *_patient(manifest)], list(columns.values()), source)
    cases = tuple(sorted((_case(row, columns, source) for row in rows), key=lambda case: case.id))
    labels, notes = _labels(manifest, cases, source)
    return Draft(
        channels=with_kinds(channels, manifest.kinds or {}),
        labels=labels,
        cases=cases,
        notes=notes,
        skipped=frozenset(skipped),
        grouping=_grouping(rows, source) if _patient(manifest) else None,
    )


def _read(source: Path) -> Manifest:
    if source.suffix.lower() == ".json":
        return _read_rows(source)
    columns, rows = read_table(source)
    return Manifest(
        columns=columns,
        rows=tuple(
            Row(f"line {number}", dict(zip(columns, cells, strict=False)), max(0, len(cells) - len(columns)))
            for number, cells in rows
        ),
    )


def _read_rows(source: Path) -> Manifest:
    content = read_json(source)
    described = content if isinstance(content, dict) else {"cases": content}
    entries, kinds = described.get("cases"), described.get("channels")
    listed = isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)
    if not isinstance(entries, list) or not listed or not isinstance(kinds, Mapping | None):
        raise DataError(
            "is no list of cases",
            file=source,
            fix='Write {"cases": [{"case": "a", "image:CT": "a.nii.gz", "label": "a_seg.nii.gz"}]}.',
            code="bad_entry",
        )
    columns = tuple(dict.fromkeys(name for entry in entries for name in entry))
    rows = tuple(
        Row(f"entry {number}", {name: str(cell).strip() for name, cell in entry.items() if cell is not None})
        for number, entry in enumerate(entries)
    )
    return Manifest(columns=columns, rows=rows, labels=described.get("labels"), kinds=kinds)


def _patient(manifest: Manifest) -> list[str]:
    return ["patient"] if "patient" in manifest.columns else []


def _channel_columns(manifest: Manifest, kinds: Mapping[str, str], source: Path) -> dict[str, str]:
    """Return channel -> column: those called `image:<channel>`, and those called as a channel whose kind was given."""
    found: dict[str, str] = {}
    for column in manifest.columns:
        name = column.removeprefix(PREFIX).strip()
        if name and (column.startswith(PREFIX) or column in kinds) and column not in ("case", "patient", "label"):
            if name in found:
                raise DataError(
                    f"has the columns {found[name]!r} and {column!r} for one channel",
                    file=source,
                    fix="Keep one of them.",
                    code="bad_table",
                )
            found[name] = column
    missing = [what for what, there in (("case", "case" in manifest.columns), ("image:<channel>", found)) if not there]
    missing += [] if "label" in manifest.columns else ["label"]
    if missing:
        raise DataError(
            f"has no column {' and no column '.join(missing)}; it has {', '.join(manifest.columns)}",
            file=source,
            fix="The first row names the columns: case,patient,image:CT,label (patient may be missing).",
            code="bad_table",
        )
    return found


def _check_rows(rows: Sequence[Row], needed: Sequence[str], images: Sequence[str], source: Path) -> None:
    """Raise one DataError for everything that is wrong with the rows."""
    seen: dict[str, str] = {}
    wrong = []
    for row in rows:
        faults = [*_faults(row, needed), *_imageless(row, images), *_path_faults(row, [*images, "label"], source)]
        id = row.cells.get("case", "")
        if id and id.lower() in seen:
            faults.append(f"the case stands in {seen[id.lower()]} as well (upper and lower case do not count)")
        seen.setdefault(id.lower(), row.place)
        if faults:
            wrong.append(f"{row.place}{f' ({id})' if id else ''}: {', '.join(faults)}")
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(rows)} rows are wrong: {'; '.join(wrong)}",
            file=source,
            fix="Correct them, or leave cases out with --skip.",
            code="bad_rows",
        )


def _faults(row: Row, needed: Sequence[str]) -> list[str]:
    faults = [f"no {name}" for name in needed if not row.cells.get(name)]
    if row.surplus:
        faults.append(f"{row.surplus} cells too many")
    if row.cells.get("case"):
        try:
            check_name(row.cells["case"], what="case id")
        except DataError as error:
            faults.append(error.what)
    return faults


def _imageless(row: Row, images: Sequence[str]) -> list[str]:
    """Only where every channel is optional can a row lack all of them and nothing else."""
    return [] if any(row.cells.get(name) for name in images) else ["no image at all"]


def _path_faults(row: Row, columns: Sequence[str], source: Path) -> list[str]:
    faults = []
    for column in columns:
        text = row.cells.get(column)
        if not text:
            continue
        try:
            path = _path(text, source)
            if not path.is_file():
                faults.append(f"{text} does not exist")
        except UserError:
            faults.append(f"{text} leads outside of the manifest's folder")
    return faults


def _path(text: str, source: Path) -> Path:
    """Return an absolute path as it is, another one below the manifest's folder."""
    return Path(text) if Path(text).is_absolute() else listed_file(source.parent, text, file=source)


def _case(row: Row, columns: Mapping[str, str], source: Path) -> Case:
    id = row.cells["case"]
    images: dict[str, DataSource] = {
        name: FileSource(path=str(_path(row.cells[column], source)))
        for name, column in columns.items()
        if row.cells.get(column)
    }
    return Case(id=id, group=id, images=images, labels=FileSource(path=str(_path(row.cells["label"], source))))


def _labels(manifest: Manifest, cases: Sequence[Case], source: Path) -> tuple[Labels, tuple[str, ...]]:
    if manifest.labels is not None:
        return read_structures(manifest.labels, file=source)
    files = [Path(case.labels.path) for case in cases if isinstance(case.labels, FileSource)]
    return name_structures(files, source=source)


def _grouping(rows: Sequence[Row], source: Path) -> Grouping:
    groups = {row.cells["case"]: row.cells["patient"] for row in rows}
    return Grouping(groups, f"Groups from the column 'patient' of {source.name}.", 1.0)
