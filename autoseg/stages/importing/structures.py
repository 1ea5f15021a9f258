"""Labels of a data set, from the `labels` entry of a `dataset.json` in any of the forms that exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autoseg.records.errors import DataError
from autoseg.records.labels import Labels, Region, Structure
from autoseg.stages.importing.sides import mirror_pairs


def read_structures(entry: Any, *, order: Any = None, file: object) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels, and notes about how they were understood.

    Args:
        entry: `{"liver": 1}`, the inverse `{"1": "liver"}` of the Medical Segmentation Decathlon, or regions
            `{"tumour": [1, 2], "core": [2]}`; "background" is 0 and "ignore" any other value.
        order: nnU-Net's `regions_class_order`: what each region paints, in the order of the regions.
        file: For the messages.

    Raises:
        DataError: Two names have one value, a value is no whole number above 0, or nothing is left to segment.
    """
    if not isinstance(entry, Mapping) or not entry:
        raise DataError(
            "does not say what the label values mean",
            file=file,
            fix='Add "labels": {"background": 0, "liver": 1}.',
            code="no_labels",
        )
    table, notes = _upright(entry, file)
    ignore = _ignore(table, file)
    targets = {name: _values(name, value, file) for name, value in table.items() if name.lower() != "ignore"}
    _check_background(targets, file)
    foreground = {name: values for name, values in targets.items() if values != (0,)}
    if not foreground:
        raise DataError(
            "declares no label besides the background", file=file, fix="Name the structures.", code="no_labels"
        )
    if ignore is not None and any(ignore in values for values in foreground.values()):
        raise DataError(
            f"the value {ignore} means both a structure and 'ignore'",
            file=file,
            fix="Give 'ignore' a value of its own.",
            code="repeated_value",
        )
    if any(isinstance(value, Sequence) for name, value in table.items() if name.lower() != "ignore"):
        return _regions(foreground, order, ignore, file), notes
    return _classes(foreground, ignore, file), notes


def make_labels(names_by_value: Mapping[int, str], *, ignore: int | None = None) -> Labels:
    """Return labels with inside values 1..K in the order of the files' values, and their left-right pairs."""
    structures = tuple(
        Structure(name=names_by_value[original], value=value, original=original)
        for value, original in enumerate(sorted(names_by_value), start=1)
    )
    return Labels(structures=structures, ignore=ignore, mirror_pairs=mirror_pairs([item.name for item in structures]))


def needs_remap(labels: Labels) -> bool:
    """Return whether the values in the files differ from the inside values."""
    return any(before != after for before, after in labels.remap().items())


def _upright(entry: Mapping[str, Any], file: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turn `{"1": "liver"}` into `{"liver": 1}`."""
    inverted = all(re.fullmatch(r"\d+", str(key)) for key in entry) and all(
        isinstance(value, str) for value in entry.values()
    )
    if not inverted:
        return dict(entry), ()
    table: dict[str, Any] = {}
    for key, name in entry.items():
        name = name.strip()
        if name in table:
            raise DataError(
                f"the values {table[name]} and {key} have one name, {name!r}",
                file=file,
                fix="Give each value a name of its own.",
                code="repeated_name",
            )
        table[name] = int(key)
    return table, ("Labels were written as value -> name and were read that way.",)


def _ignore(table: Mapping[str, Any], file: object) -> int | None:
    for name, value in table.items():
        if name.lower() == "ignore":
            values = _values(name, value, file)
            if len(values) != 1 or values[0] == 0:
                raise DataError(
                    f"'ignore' has the value {value}", file=file, fix="Give it one value above 0.", code="bad_value"
                )
            return values[0]
    return None


def _values(name: str, value: Any, file: object) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list) else (value,)
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= 65535:
            raise DataError(
                f"label {name!r} has the value {item!r}, which is no whole number from 0 to 65535",
                file=file,
                fix="Label values are whole numbers; 0 is the background.",
                code="bad_value",
            )
    if not values:
        raise DataError(f"label {name!r} has no value", file=file, fix="Give it one.", code="bad_value")
    return tuple(sorted(set(values)))


def _check_background(targets: Mapping[str, tuple[int, ...]], file: object) -> None:
    background = targets.get("background", (0,))
    if background != (0,):
        raise DataError(f"'background' has the value {background[0]}", file=file, fix="It must be 0.", code="bad_value")
    zeros = [name for name, values in targets.items() if 0 in values]
    if len(zeros) > 1:
        raise DataError(
            f"{_list(zeros)} share the value 0",
            file=file,
            fix="0 is the background alone.",
            code="repeated_value",
        )


def _classes(foreground: Mapping[str, tuple[int, ...]], ignore: int | None, file: object) -> Labels:
    names: dict[int, str] = {}
    for name, (value,) in foreground.items():
        if value in names:
            raise DataError(
                f"{_list([names[value], name])} share the value {value}",
                file=file,
                fix="Give each structure a value of its own.",
                code="repeated_value",
            )
        names[value] = name
    return make_labels(names, ignore=ignore)


def _regions(foreground: Mapping[str, tuple[int, ...]], order: Any, ignore: int | None, file: object) -> Labels:
    if not isinstance(order, list) or len(order) != len(foreground):
        found = f"{len(order)} entries" if isinstance(order, list) else "none"
        raise DataError(
            f"has {len(foreground)} regions but 'regions_class_order' has {found}",
            file=file,
            fix="List what each region paints, one value a region and in the order of the regions.",
            code="region_order",
        )
    _check_distinct(foreground, file)
    paints = [_values("regions_class_order", value, file)[0] for value in order]
    used = sorted({value for values in foreground.values() for value in values})
    alone = {values[0]: name for name, values in foreground.items() if len(values) == 1}
    stem = "label_"
    while any(name.startswith(stem) for name in alone.values()):
        stem += "_"
    labels = make_labels({value: alone.get(value, f"{stem}{value}") for value in used}, ignore=ignore)
    inside = labels.remap()
    regions = tuple(
        Region(name=name, values=tuple(inside[value] for value in values), original=paint)
        for (name, values), paint in zip(foreground.items(), paints, strict=True)
    )
    return labels.model_copy(update={"regions": regions})


def _check_distinct(foreground: Mapping[str, tuple[int, ...]], file: object) -> None:
    owners: dict[tuple[int, ...], str] = {}
    for name, values in foreground.items():
        if values in owners:
            raise DataError(
                f"{_list([owners[values], name])} are made of the same values {', '.join(map(str, values))}",
                file=file,
                fix="Leave one of the two out.",
                code="repeated_value",
            )
        owners[values] = name


def _list(names: Sequence[str]) -> str:
    return " and ".join(repr(name) for name in names)
