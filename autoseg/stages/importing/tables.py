"""Tables of text: rows by the names of their columns, separated by commas or semicolons."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from autoseg.records.errors import DataError
from autoseg.stages.importing.descriptions import read_text

Row = tuple[int, tuple[str, ...]]


def read_table(path: Path) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Return the names of the columns, and the number of the line and the cells of every row that is not empty.

    The separator is the one of `;` and `,` that the first line holds more often. White space around cells is
    dropped; the rows may have more or fewer cells than there are columns.

    Raises:
        DataError: The file cannot be read, is no UTF-8 text, is empty, or two columns have one name.
    """
    text = read_text(path, code="bad_table")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        rows = [(reader.line_num, tuple(cell.strip() for cell in row)) for row in reader]
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num}: {error}", file=path, fix="Save it as plain CSV.", code="bad_table"
        ) from None
    filled = [(number, cells) for number, cells in rows if any(cells)]
    if not filled:
        raise DataError("is empty", file=path, fix="The first row names the columns.", code="bad_table")
    columns = filled[0][1]
    _check_distinct(columns, path)
    return columns, tuple(filled[1:])


def _check_distinct(columns: Sequence[str], path: Path) -> None:
    repeated = [name for place, name in enumerate(columns) if name and name in columns[:place]]
    if repeated:
        raise DataError(
            f"has two columns {repeated[0]!r}", file=path, fix="Give each column a name of its own.", code="bad_table"
        )
