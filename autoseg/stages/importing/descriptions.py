"""Reading a `dataset.json` so that every mistake in it is said with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoseg.records.errors import DataError


def read_text(path: Path, *, code: str) -> str:
    """Return a text file's content without a byte order mark.

    Raises:
        DataError: It cannot be read, or is not UTF-8 (with this `code`).
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", file=path, fix="Put the file there.", code="missing_file"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 text (byte {error.start})", file=path, fix="Save it as UTF-8.", code=code
        ) from None


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; a byte order mark is accepted, a key that comes twice is not.

    Raises:
        DataError: It is missing, not UTF-8, or no JSON; the message names line and column.
    """
    text = read_text(path, code="bad_json")
    try:
        return json.loads(text, object_pairs_hook=_distinct_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"line {error.lineno}, column {error.colno}: {error.msg[0].lower()}{error.msg[1:]}",
            file=path,
            fix="Correct the JSON there; a comma after the last entry is the usual cause.",
            code="bad_json",
        ) from None
    except _RepeatedKey as error:
        raise DataError(
            f"the key {error.args[0]!r} stands twice in one object",
            file=path,
            fix="Keep one of the two, or give one another name.",
            code="bad_json",
        ) from None
    except RecursionError:
        raise DataError("is nested too deeply", file=path, fix="Write it anew.", code="bad_json") from None


def read_description(path: Path) -> dict[str, Any]:
    """Return the object that a `dataset.json` holds.

    Raises:
        DataError: As `read_json`, and when the file holds something else than an object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(
            f"holds a {type(content).__name__}, not an object",
            file=path,
            fix='It must begin with "{" and name the channels and the labels.',
            code="bad_json",
        )
    return content


class _RepeatedKey(Exception):
    """A key that stands twice in one object."""


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise _RepeatedKey(key)
        table[key] = value
    return table
