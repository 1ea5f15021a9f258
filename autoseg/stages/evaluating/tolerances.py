"""A user's table of tolerances for the surface Dice."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from autoseg.records.errors import DataError
from autoseg.records.labels import Labels

HEADER = ["structure", "tolerance_mm"]
FIX = "Give a CSV file with the columns structure,tolerance_mm and a row a structure."


def read_tolerances(file: Path) -> dict[str, float]:
    """Return structure (or region) -> tolerance in mm from a CSV file with the columns structure,tolerance_mm.

    Raises:
        DataError: The file cannot be read or is no such table, or a structure stands in it twice.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot be read: {why}", file=file, fix=FIX, code="cannot_read") from None
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        raise DataError("is no table of tolerances", file=file, fix=FIX, code="not_tolerances")
    found: dict[str, float] = {}
    for number, row in enumerate(rows[1:], start=2):
        name, mm = _row(file, number, row)
        if name in found:
            raise DataError(f"{name!r} stands there twice", file=file, fix="Keep one of the rows.", code="twice")
        found[name] = mm
    return found


def check_tolerances(tolerances: Mapping[str, float], labels: Labels) -> None:
    """Refuse tolerances of a structure which is not scored.

    Raises:
        DataError: It does; the message lists the names there are.
    """
    names = [name for name, _ in labels.targets]
    strange = [name for name in tolerances if name not in names]
    if strange:
        raise DataError(
            f"a tolerance is given for {strange[0]!r}, which is no structure here",
            fix=f"There are: {', '.join(names)}.",
            code="unknown_structure",
        )


def _row(file: Path, number: int, row: list[str]) -> tuple[str, float]:
    try:
        name, text = (cell.strip() for cell in row)
        mm = float(text)
    except ValueError:
        raise DataError(f"row {number} is {','.join(row)!r}", file=file, fix=FIX, code="not_tolerances") from None
    if not (math.isfinite(mm) and mm >= 0):
        raise DataError(
            f"row {number}: the tolerance of {name!r} is {text}", file=file, fix="Give a distance in mm, 0 or more."
        )
    return name, mm
