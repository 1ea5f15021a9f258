"""Names of organs: TG-263 for radiotherapy, SNOMED CT for segmentations, and what people write instead.

Source of the names: AAPM Task Group 263, "Standardizing Nomenclatures in Radiation Oncology" (2018). `tg263.csv` is a
small table of ours: the organs of head and neck, thorax, abdomen and pelvis; `{}` stands for the sides L and R.
"""

from __future__ import annotations

import csv
import difflib
import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
SIDES = {"l": "L", "left": "L", "lt": "L", "li": "L", "links": "L", "r": "R", "right": "R", "rt": "R", "re": "R",
         "rechts": "R"}  # fmt: skip
SYMBOLS = {"&": " and ", "+": " and "}


@dataclass(frozen=True)
class Organ:
    """One row of the table: the TG-263 name, the keyword of its SNOMED code in pydicom ("" where there is none)."""

    name: str
    sct: str


def standard_name(text: str) -> str | None:
    """Return the TG-263 name of an organ that is called `text`, however written; None where the table has none.

    Words are compared without regard to case, order of the side, and separators: `Parotid_L`, `left parotid`,
    `ParotidL` and `Glnd_Parotid_L` are one.
    """
    organ = _by_words().get(_key(text))
    return organ.name if organ else None


def suggest(text: str) -> str | None:
    """Return the TG-263 name that is spelt most like `text`, or None where none is."""
    table = {"".join(key): organ.name for key, organ in _by_words().items()}
    near = difflib.get_close_matches("".join(_key(text)), table, n=1, cutoff=0.75)
    return table[near[0]] if near else None


def code_of(text: str) -> Any:
    """Return the SNOMED CT code of an organ, or that of tissue where the table does not know it."""
    from pydicom.sr.codedict import codes

    organ = _by_words().get(_key(text))
    return getattr(codes.SCT, organ.sct) if organ and organ.sct else codes.SCT.Tissue


@functools.cache
def _by_words() -> dict[tuple[str, ...], Organ]:
    table: dict[tuple[str, ...], Organ] = {}
    text = resources.files("autoseg.images.dicom").joinpath("tg263.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        for side in ("L", "R") if "{}" in row["name"] else ("",):
            organ = Organ(row["name"].replace("{}", side), row["sct"])
            for word in (row["name"], *filter(None, row["also"].split("|"))):
                table.setdefault(_key(word.replace("{}", side)), organ)
    return table


def _key(text: str) -> tuple[str, ...]:
    """Return the words of a name in lower case and alphabetical order, its side as L or R."""
    for symbol, word in SYMBOLS.items():
        text = text.replace(symbol, word)
    words = [word.lower() for word in WORD.findall(text)]
    if len(words) > 1:
        words = [SIDES.get(word, word) for word in words]
    return tuple(sorted(words))
