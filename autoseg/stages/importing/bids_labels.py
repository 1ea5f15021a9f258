"""Label files of BIDS derivatives: which there are, what they are called, and what their values mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.dataset import FileSource, Mask, MaskSource
from autoseg.records.dataset import Source as DataSource
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels
from autoseg.stages.importing.bids_names import CASE_ENTITIES, Name, read_tsv
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.structures import make_labels
from autoseg.stages.importing.unnamed import MOST_VOLUMES, name_structures

SUFFIXES = frozenset({"dseg", "mask", "seg"})
ENTITIES = ("label", "seg", "lesion")


@dataclass(frozen=True)
class Described:
    """What the label files of all cases come to; `sources` and `annotated` by case id."""

    labels: Labels
    sources: dict[str, DataSource]
    annotated: dict[str, tuple[str, ...] | None]
    notes: tuple[str, ...]


def label_kind(name: Name) -> str | None:
    """Return what distinguishes a label file from others of its case (`label-liver_mask`), None for other files."""
    if "probseg" in name.words or "desc-preproc" in name.path.name:
        return None
    if not (SUFFIXES & set(name.words) or any(key in name.entities for key in ENTITIES)):
        return None
    parts = [f"{k}-{v}" for k, v in name.entities.items() if k not in CASE_ENTITIES and k not in ("space", "res")]
    return "_".join([*parts, *(word for word in name.words if word in SUFFIXES)])


def describe(files: Mapping[str, Sequence[Name]], source: Path) -> Described:
    """Return the labels: one mask a `label-NAME` where there are such, else one label map a case.

    Raises:
        DataError: Cases lack every label file of the chosen kind, or tables of values contradict one another.
    """
    named = {id: _named(names) for id, names in files.items()}
    if any(named.values()):
        return _masks(named, source)
    kinds = Counter(label_kind(name) or "" for names in files.values() for name in names)
    chosen = min(kinds, key=lambda kind: ("dseg" not in kind, -kinds[kind], kind))
    maps = {id: next((name for name in names if label_kind(name) == chosen), None) for id, names in files.items()}
    _require_all([id for id, name in maps.items() if name is None], len(maps), chosen, source)
    there = {id: name for id, name in maps.items() if name is not None}
    others = sorted(kinds.keys() - {chosen})
    left_out = f"Label files of the kind {chosen} were imported, not {enumerate_cases(others)}."
    notes: tuple[str, ...] = (left_out,) if others else ()
    table = _tables(list(there.values()), source)
    if table:
        labels = make_labels(table)
    else:
        paths = [name.path for name in there.values()]
        labels, found = name_structures(paths, source=source / "derivatives", most=MOST_VOLUMES)
        notes += found
    sources: dict[str, DataSource] = {id: FileSource(path=str(name.path)) for id, name in there.items()}
    return Described(labels, sources, dict.fromkeys(there), notes)


def _named(names: Sequence[Name]) -> dict[str, Name]:
    """Return structure -> its mask; of several descriptions of one structure the first by name."""
    masks: dict[str, Name] = {}
    for name in sorted(names, key=str):
        label = name.entities.get("label")
        if label:
            side = name.entities.get("hemi")
            masks.setdefault(f"{label}_{side}" if side else label, name)
    return masks


def _masks(named: Mapping[str, Mapping[str, Name]], source: Path) -> Described:
    structures = sorted({name for masks in named.values() for name in masks}, key=lambda name: (name.lower(), name))
    _require_all([id for id, masks in named.items() if not masks], len(named), "label-NAME", source)
    labels = make_labels(dict(enumerate(structures, start=1)))
    values = {item.name: item.value for item in labels.structures}
    sources: dict[str, DataSource] = {
        id: MaskSource(masks=tuple(Mask(path=str(masks[n].path), value=values[n]) for n in structures if n in masks))
        for id, masks in named.items()
    }
    annotated = {
        id: None if len(masks) == len(structures) else tuple(name for name in structures if name in masks)
        for id, masks in named.items()
    }
    notes = ["Where two masks overlap, the later of " + ", ".join(structures) + " wins."] if len(structures) > 1 else []
    partial = [id for id, there in annotated.items() if there is not None]
    if partial:
        notes.append(
            f"{len(partial)} of {len(named)} cases have no file for some structures ({enumerate_cases(partial)}): "
            "not annotated there, which is not the same as absent."
        )
    return Described(labels, sources, annotated, tuple(notes))


def _require_all(lacking: Sequence[str], count: int, kind: str, source: Path) -> None:
    if lacking:
        raise DataError(
            f"{len(lacking)} of {count} cases with labels have no {kind}: {enumerate_cases(lacking)}",
            file=source / "derivatives",
            fix="Add the files, or leave these cases out with --skip.",
            code="missing_labels",
        )


def _tables(names: Sequence[Name], source: Path) -> dict[int, str]:
    """Return value -> name out of every `dseg.tsv` that speaks of one of the files."""
    table: dict[int, str] = {}
    for file in sorted({file for name in names for file in _tables_of(name, source)}):
        for row in read_tsv(file):
            value, text = row.get("index", ""), row.get("name", "")
            if not value.isdigit() or not text:
                raise DataError(
                    f"the row {row} has no index or no name",
                    file=file,
                    fix="Give the table the columns index and name.",
                    code="bad_table",
                )
            if int(value) and table.setdefault(int(value), text) != text:
                raise DataError(
                    f"calls {value} {text!r}, elsewhere it is {table[int(value)]!r}",
                    file=file,
                    fix="Use one name for one value.",
                    code="repeated_value",
                )
    return table


def _tables_of(name: Name, source: Path) -> list[Path]:
    """Return the tables that hold for a label map: beside it or in a folder above, with no part that it lacks."""
    own = set(name.path.name.partition(".")[0].split("_"))
    folder = name.path.parent
    while True:
        fitting = [
            file
            for file in sorted(folder.glob("*dseg.tsv"))
            if set(file.name.partition(".")[0].split("_")) - {"dseg"} <= own
        ]
        if fitting or folder == source or source not in folder.parents:
            return fitting
        folder = folder.parent
