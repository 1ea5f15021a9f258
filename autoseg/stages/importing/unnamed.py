"""Structures that nobody named: the values above 0 that some of the label files hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.records.errors import DataError, UserError
from autoseg.records.labels import Labels
from autoseg.stages.importing.structures import make_labels

MOST_FILES = 300
MOST_VOLUMES = 20
MOST_VALUES = 150
PLAIN = {
    0xFF0000: "red", 0x00FF00: "green", 0x0000FF: "blue", 0xFFFF00: "yellow", 0x00FFFF: "cyan", 0xFF00FF: "magenta",
    0xFFFFFF: "white", 0x800000: "maroon", 0x008000: "dark_green", 0x000080: "navy", 0x808080: "grey",
}  # fmt: skip


def name_structures(files: Sequence[Path], *, source: Path, most: int = MOST_FILES) -> tuple[Labels, tuple[str, ...]]:
    """Return a structure for every value in the files, and notes about how they were found.

    A single value, such as the 255 of a black and white mask, is called `foreground`; of several, each is called
    `class_<value>`. At most `most` files are read, spread evenly; a value that only another one holds is found
    by the check.

    Args:
        files: Label files, at least one.
        source: For the message.
        most: How many files are looked at; whole volumes take longer than pictures.

    Raises:
        DataError: No file can be read, they hold nothing above 0, or so many values that they cannot be labels.
    """
    looked = spread(files, most=most)
    values: set[int] = set()
    errors: list[UserError] = []
    for path in looked:
        try:
            values |= _values(path)
        except UserError as error:
            errors.append(error)  # the check says what is wrong with this file
    if len(errors) == len(looked):
        raise errors[0]
    if not values or len(values) > MOST_VALUES:
        raise DataError(
            f"{len(values) or 'no'} values above 0 were found in {len(looked)} label files",
            file=source,
            fix="One value a structure is expected: are these masks, saved without loss and without soft edges?",
            code="no_labels",
        )
    return make_labels(_names(values)), _notes(values, len(looked), len(files))


def name_colours(files: Sequence[Path], *, source: Path) -> tuple[Labels, tuple[str, ...]]:
    """Return a structure for every colour in masks that are painted, black left out, and notes about it.

    They are called `red`, `green` ... where the colour has a plain name, else `colour_ff8000`, and numbered in the
    order of their codes.

    Raises:
        DataError: No file can be read, they are black, or hold so many colours that they cannot be labels.
    """
    from autoseg.images.colour_labels import read_codes

    looked = spread(files, most=MOST_FILES)
    codes: set[int] = set()
    errors: list[UserError] = []
    for path in looked:
        try:
            codes |= {int(code) for code in np.unique(read_codes(path)[0]) if code}
        except UserError as error:
            errors.append(error)  # the check says what is wrong with this file
        if len(codes) > MOST_VALUES:
            break
    if len(errors) == len(looked):
        raise errors[0]
    if not codes or len(codes) > MOST_VALUES:
        raise DataError(
            f"{'more than ' if codes else ''}{MOST_VALUES if codes else 'no'} colours were found in the masks",
            file=source,
            fix="One colour a structure is expected: are these masks, saved without loss and without soft edges?",
            code="no_labels",
        )
    names = {number: PLAIN.get(code, f"colour_{code:06x}") for number, code in enumerate(sorted(codes), start=1)}
    labels = make_labels(names)
    painted = tuple(
        item.model_copy(update={"colour": (code >> 16, code >> 8 & 255, code & 255)})
        for item, code in zip(labels.structures, sorted(codes), strict=True)
    )
    found = ", ".join(f"#{code:06x} = {item.name}" for item, code in zip(painted, sorted(codes), strict=True))
    return labels.model_copy(update={"structures": painted}), (f"The masks are painted in colours: {found}.",)


def spread(files: Sequence[Path], *, most: int) -> list[Path]:
    """Return at most `most` of the files, spread evenly over them."""
    count = min(len(files), most)
    return [files[place * len(files) // count] for place in range(count)]


def _values(path: Path) -> set[int]:
    from autoseg.images.files import read_volume

    array, _ = read_volume(path)
    if array.dtype == np.uint8:
        # Counting is some ten times faster than sorting, and most masks are bytes.
        return {int(value) for value in np.flatnonzero(np.bincount(array.ravel(), minlength=256)) if value}
    found = np.unique(array[array > 0])
    return {int(value) for value in found if np.isfinite(value) and value == int(value)}


def _names(values: set[int]) -> dict[int, str]:
    return {value: "foreground" if len(values) == 1 else f"class_{value}" for value in values}


def _notes(values: set[int], looked: int, count: int) -> tuple[str, ...]:
    found = ", ".join(f"{value} = {name}" for value, name in sorted(_names(values).items()))
    notes = [f"The label values have no names; {looked} of {count} label files hold {found}."]
    if len(values) > 1 and 255 in values:
        notes.append("The value 255 is taken for a structure; where it means 'do not learn from here', say so first.")
    return tuple(notes)
