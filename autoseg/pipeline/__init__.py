"""The method: one module a part of the way, one short function per command.

Every function reads records, calls stages, and writes records. A module imports what its commands need and no more, so
that importing and checking do not load torch.
"""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float, float | None], None]
"""Called with what is being done, the fraction that is done, and the seconds left where they are known."""


def quiet(what: str, done: float, seconds_left: float | None) -> None:
    """Tell nobody."""
