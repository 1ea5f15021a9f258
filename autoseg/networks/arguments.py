"""Reading a network's arguments (plain JSON) with errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from autoseg.records.geometry import Shape


def check_keys(architecture: Architecture, keys: Sequence[str], *, optional: Sequence[str] = ()) -> None:
    """Raise unless the arguments hold all of `keys`, perhaps some of `optional`, and nothing else.

    Raises:
        UsageError: A key is missing, or unknown; the nearest valid one is named.
    """
    for key in keys:
        if key not in architecture.arguments:
            raise wrong(architecture, key, "is missing", fix=f"It takes {', '.join((*keys, *optional))}.")
    for key in architecture.arguments:
        if key not in keys and key not in optional:
            raise wrong(architecture, key, "is unknown", fix=nearest(key, (*keys, *optional)))


def counts(architecture: Architecture, key: str, *, length: int | None = None) -> tuple[int, ...]:
    """Return the list of whole numbers (1 or more) under `key`, of `length` entries where that is given.

    Raises:
        UsageError: It is something else.
    """
    value = architecture.arguments[key]
    if not isinstance(value, list) or not value or not all(_is_count(item) for item in value):
        raise wrong(architecture, key, f"is {value!r}, not a list of whole numbers of 1 or more")
    if length is not None and len(value) != length:
        raise wrong(architecture, key, f"has {len(value)} entries, not {length}")
    return tuple(value)  # type: ignore[arg-type]


def per_axis(architecture: Architecture, key: str, *, length: int) -> tuple[tuple[int, ...], ...]:
    """Return the list of `length` rows under `key`, each of one whole number (1 or more) a spatial axis.

    Raises:
        UsageError: It is something else.
    """
    value = architecture.arguments[key]
    axes = "[z, y, x]" if architecture.dimensions == 3 else "[y, x]"
    if not isinstance(value, list) or not all(_is_row(row, architecture.dimensions) for row in value):
        raise wrong(architecture, key, f"is {value!r}, not a list of {axes} whole numbers of 1 or more")
    if len(value) != length:
        raise wrong(architecture, key, f"has {len(value)} entries, not {length}")
    return tuple(tuple(row) for row in value)  # type: ignore[arg-type]


def number(architecture: Architecture, key: str, default: int | None = None) -> int:
    """Return the whole number (1 or more) under `key`, or `default` where the key is absent.

    Raises:
        UsageError: It is something else.
    """
    value = architecture.arguments.get(key, default)
    if not _is_count(value):
        raise wrong(architecture, key, f"is {value!r}, not a whole number of 1 or more")
    return value  # type: ignore[return-value]


def axes(architecture: Architecture, key: str) -> tuple[int, ...]:
    """Return the whole numbers (1 or more) under `key`, one a spatial axis.

    Raises:
        UsageError: It is something else.
    """
    value = architecture.arguments[key]
    if not _is_row(value, architecture.dimensions):
        row = "[z, y, x]" if architecture.dimensions == 3 else "[y, x]"
        raise wrong(architecture, key, f"is {value!r}, not {row} whole numbers of 1 or more")
    return tuple(value)  # type: ignore[arg-type]


def shape_of(axes: Sequence[int]) -> Shape:
    """Return one number a spatial axis as (z, y, x), z = 1 in 2D."""
    z, y, x = (1, *axes)[-3:]
    return z, y, x


def wrong(architecture: Architecture, key: str, what: str, *, fix: str = "") -> UsageError:
    """Return the error that says what is wrong with one argument of a network."""
    return UsageError(f"network {architecture.kind}: argument {key!r} {what}", fix=fix, code="wrong_argument")


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the sentence that offers the valid word most like `word`, or lists all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(valid)}."


def _is_count(value: JsonValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_row(value: JsonValue, dimensions: int) -> bool:
    return isinstance(value, list) and len(value) == dimensions and all(_is_count(item) for item in value)
