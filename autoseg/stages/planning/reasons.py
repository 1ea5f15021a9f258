"""A value together with the reason for it, so that every number of a plan can say why it is so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoseg.records.plan import Decision

T = TypeVar("T")


@dataclass(frozen=True)
class Reasoned(Generic[T]):
    """A value and why it is so, in plain words with the numbers behind it."""

    value: T
    because: str

    def decision(self, what: str, value: str = "") -> Decision:
        """Return the record of this decision; `value` replaces the value's own words."""
        return Decision(what=what, value=value or words(self.value), because=self.because)


def words(value: object) -> str:
    """Return a value as people read it: numbers with at most four digits, sequences as (a, b, c)."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(words(item) for item in value) + ")"
    return str(value)


def gigabytes(count: float) -> str:
    """Return bytes as `3.21 GB` (2^30 bytes)."""
    return f"{count / 2**30:.3g} GB"


def listed(names: Iterable[str]) -> str:
    """Return names as `a, b and c`."""
    items = list(names)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
