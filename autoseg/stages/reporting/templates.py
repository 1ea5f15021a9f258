"""Records -> HTML: one environment for every page; what comes from files is escaped, never trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from autoseg.stages.reporting import registrations
from autoseg.storage import write_bytes


def write_page(file: Path, template: str, **content: Any) -> Path:
    """Write a page that needs nothing else, and return its path."""
    write_bytes(file, environment().get_template(template).render(**content).encode())
    return file


def environment() -> Environment:
    """Return what renders the templates of this package."""
    made = Environment(
        loader=PackageLoader("autoseg.stages.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made.filters["figure"] = _figure
    made.filters["short"] = _short
    made.filters["fit"] = registrations.fit
    return made


def _printable(value: object) -> object:
    """Return text without control characters; everything else as it is."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return type(value)("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in value))


def _figure(value: float, digits: int = 3) -> str:
    """Return a number for people: nan means that there was nothing to score."""
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _short(value: float) -> str:
    """Return a number with three digits that count, whole ones as they are."""
    return f"{value:.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"
