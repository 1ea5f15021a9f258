"""Which structures are left and right of one another, told from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = {
    "left": "left", "right": "right", "l": "left", "r": "right", "lt": "left", "rt": "right", "lh": "left",
    "rh": "right", "links": "left", "rechts": "right", "sin": "left", "dex": "right", "sinistra": "left",
    "dextra": "right", "sinister": "left", "dexter": "right",
}  # fmt: skip
GERMAN = re.compile(r"(link|recht)(e|er|es|en|em)")
GLUED = re.compile(r"(left|right|links|rechts)(.+)|(.+?)(left|right|links|rechts)")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")

Key = tuple[str, ...]


def mirror_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of structures whose names differ by side alone, left first.

    Args:
        names: Of the structures with the inside values 1, 2, 3 ... in order.

    Returns:
        Pairs of inside values, sorted. A name without a partner, or with two, is in none.
    """
    table: dict[Key, dict[str, list[int]]] = {}
    for value, name in enumerate(names, start=1):
        found = side_of(name)
        if found is not None:
            side, rest = found
            table.setdefault(rest, {"left": [], "right": []})[side].append(value)
    pairs = (
        (sides["left"][0], sides["right"][0])
        for sides in table.values()
        if len(sides["left"]) == 1 and len(sides["right"]) == 1
    )
    return tuple(sorted(pairs))


def side_of(name: str) -> tuple[str, Key] | None:
    """Return the side that a name speaks of and the words left over, with a mark where the side stood.

    Side words count at the front, at the end and in between (`Glnd_Lacrimal_L`, `left lung`, `rib_left_3`,
    `LeftKidney`); a name with two of them, or with none, has no side.
    """
    words = [word.lower() for word in WORD.findall(name)]
    if len(words) == 1:
        words = _unglue(words[0])
    sides = [(position, _side(word)) for position, word in enumerate(words) if _side(word)]
    if len(sides) != 1 or len(words) == 1:
        return None
    position, side = sides[0]
    return str(side), (*words[:position], "|", *words[position + 1 :])


def _side(word: str) -> str | None:
    german = GERMAN.fullmatch(word)
    if german:
        return "left" if german[1] == "link" else "right"
    return SIDES.get(word)


def _unglue(word: str) -> list[str]:
    found = GLUED.fullmatch(word)
    return [part for part in found.groups() if part] if found else [word]
