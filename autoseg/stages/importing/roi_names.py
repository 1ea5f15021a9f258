"""From the names of ROIs and segments to structures: the user's table first, then TG-263, then the name itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.images.dicom.names import standard_name, suggest
from autoseg.records.errors import DataError
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.tables import read_table

COLUMNS = ("roi", "name")
NO_ORGANS = (
    "EXTERNAL", "SUPPORT", "FIXATION", "ISOCENTER", "MARKER", "REGISTRATION", "DOSE_REGION", "BOLUS", "CONTROL",
    "CONTRAST_AGENT", "PTV", "TREATED_VOLUME", "IRRAD_VOLUME",
)  # fmt: skip
COMMON_FRACTION = 0.5


@dataclass(frozen=True)
class Drawn:
    """One ROI or segment with voxels, as its file has it; `kind` is RTROIInterpretedType, "" where unknown."""

    path: Path
    number: int
    name: str
    kind: str


def read_roi_table(path: Path) -> dict[str, str]:
    """Return name in the files -> structure, from a CSV with the columns `roi` and `name`; "" leaves the ROI out.

    Raises:
        DataError: The table cannot be read, lacks a column, or names an ROI twice.
    """
    columns, rows = read_table(path)
    if not set(COLUMNS) <= set(columns):
        raise DataError(
            f"has the columns {', '.join(columns)}",
            file=path,
            fix="It needs roi (the name in the files) and name (the structure; empty leaves it out).",
            code="bad_table",
        )
    places = [columns.index(name) for name in COLUMNS]
    table: dict[str, str] = {}
    for number, cells in rows:
        roi, name = (cells[place] if place < len(cells) else "" for place in places)
        if not roi or table.get(roi.lower(), name) != name:
            raise DataError(
                f"line {number}: ROI {roi!r} has {'no name' if not roi else 'two names'}",
                file=path,
                fix="Name every ROI once.",
                code="bad_table",
            )
        table[roi.lower()] = name
    return table


def name_structures(
    cases: Mapping[str, Sequence[Drawn]], table: Mapping[str, str]
) -> tuple[dict[str, dict[str, Drawn]], list[str]]:
    """Return case -> structure -> what was drawn, and notes.

    A name that neither table knows is taken as it is when at least half of the cases have it; rarer ones, and what is
    no organ by its type (outer contour, couch, planning target, marker), are left out and said.
    """
    common = _common(cases, table)
    chosen: dict[str, dict[str, Drawn]] = {}
    rare: dict[str, set[str]] = {}
    doubled: list[str] = []
    for case, drawn in cases.items():
        found: dict[str, Drawn] = {}
        for item in drawn:
            name = _structure(item, table, common)
            if name is None:
                rare.setdefault(item.name, set()).add(case)
            elif name and name in found:
                doubled.append(f"{item.name!r} of {case} (the structure {name} is there already)")
            elif name:
                found[name] = item
        chosen[case] = found
    return chosen, _notes(cases, table, common, rare, doubled)


def _structure(item: Drawn, table: Mapping[str, str], common: Mapping[str, str]) -> str | None:
    """Return the structure that an ROI is, "" where it was asked to be left out, None where nobody knows it."""
    if item.name.lower() in table:
        return table[item.name.lower()]
    if item.kind.upper() in NO_ORGANS:
        return None
    return standard_name(item.name) or common.get(item.name.lower())


def _common(cases: Mapping[str, Sequence[Drawn]], table: Mapping[str, str]) -> dict[str, str]:
    """Return lower-case name -> name of unknown organs that at least half of the cases have, as written first."""
    spelt: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for drawn in cases.values():
        unknown = {item.name.lower(): item.name for item in drawn if _structure(item, table, {}) is None
                   and item.kind.upper() not in NO_ORGANS}  # fmt: skip
        counts.update(unknown.keys())
        for low, name in unknown.items():
            spelt.setdefault(low, name)
    return {low: spelt[low] for low, count in counts.items() if count >= COMMON_FRACTION * len(cases)}


def _notes(
    cases: Mapping[str, Sequence[Drawn]],
    table: Mapping[str, str],
    common: Mapping[str, str],
    rare: Mapping[str, set[str]],
    doubled: Sequence[str],
) -> list[str]:
    notes = []
    renamed = sorted({
        (item.name, name)
        for drawn in cases.values()
        for item in drawn
        if item.name.lower() not in table and (name := _structure(item, table, {})) and name != item.name
    })  # fmt: skip
    if renamed:
        notes.append(f"Named by TG-263: {', '.join(f'{old} is {new}' for old, new in renamed)}.")
    if common:
        notes.append(f"Not in TG-263's table, kept as named: {_with_suggestions(sorted(common.values()))}.")
    if rare:
        names = sorted(rare)
        notes.append(
            f"{len(names)} names were left out (unknown and rare, or no organ): {_with_suggestions(names, most=12)}. "
            "Name them in a table (--roi-table) to keep them."
        )
    if doubled:
        notes.append(f"Warning: {len(doubled)} ROIs were left out: {'; '.join(doubled[:3])}.")
    return notes


def _with_suggestions(names: Sequence[str], *, most: int = 30) -> str:
    near = ((name, suggest(name)) for name in names[:most])
    words = [f"{name} (is it {guess}?)" if guess else name for name, guess in near]
    return ", ".join(words) + (f" and {len(names) - most} more" if len(names) > most else "")


def partial_note(cases: Mapping[str, Iterable[str]], names: Sequence[str]) -> list[str]:
    """Say which cases lack structures: not annotated there, which is not the same as absent."""
    lacking = [case for case, found in cases.items() if set(names) - set(found)]
    if not lacking:
        return []
    return [
        f"{len(lacking)} of {len(cases)} cases have no drawing of some of the {len(names)} structures "
        f"({enumerate_cases(lacking)}): not annotated there, which is not the same as absent."
    ]
