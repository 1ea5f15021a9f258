"""Names of files in BIDS, and what `participants.tsv` says of the subjects."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from autoseg.records.errors import DataError

CASE_ENTITIES = ("sub", "ses", "run")
UNKNOWN = frozenset({"", "-", "n/a", "na", "nan", "none", "unknown"})
PERSONAL = re.compile(r".*(name|birth|date|address|mail|phone|comment).*|(?!institution)(.*[_-])?id", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A file name of BIDS in its parts.

    Attributes:
        path: Of the file.
        entities: `{"sub": "01", "label": "liver"}`, in the order of the name.
        words: Parts that are no entity, in order; the last one of a standard name is its suffix (`T1w`, `dseg`).
        folder: Name of the folder it lies in, such as `anat`.
    """

    path: Path
    entities: dict[str, str]
    words: tuple[str, ...]
    folder: str

    def __str__(self) -> str:
        return self.path.name

    @property
    def subject(self) -> str:
        """Such as `sub-01`."""
        return f"sub-{self.entities['sub']}"

    @property
    def case(self) -> str:
        """Subject, session and run: `sub-01_ses-02`."""
        return "_".join(f"{key}-{self.entities[key]}" for key in CASE_ENTITIES if key in self.entities)

    @property
    def suffix(self) -> str:
        """The last word, "" where the name has none."""
        return self.words[-1] if self.words else ""

    @property
    def channel(self) -> str:
        """The suffix, with what distinguishes it from others of that suffix: `acq-fast_T1w`."""
        more = [f"{key}-{value}" for key, value in self.entities.items() if key not in CASE_ENTITIES]
        return "_".join([*more, *self.words])


def parse(path: Path) -> Name | None:
    """Return the parts of an image's name, None when it is no image or names no subject."""
    from autoseg.images.files import is_image, strip_suffix

    if not is_image(path) or path.is_dir():
        return None
    entities: dict[str, str] = {}
    words = []
    for part in strip_suffix(path.name).split("_"):
        key, dash, value = part.partition("-")
        if dash:
            entities[key] = value
        elif part:
            words.append(part)
    return Name(path, entities, tuple(words), path.parent.name) if entities.get("sub") else None


def read_tsv(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table with tabs, cells without surrounding blanks.

    Raises:
        DataError: It is no UTF-8 text.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", restval="", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", file=file, fix="Save it as UTF-8.", code="bad_table") from None
    return [{key.strip(): value.strip() for key, value in row.items() if key and value} for row in rows]


def attributes_of(source: Path) -> dict[str, dict[str, str]]:
    """Return subject -> facts of `participants.tsv`; unknown ones, identifiers and personal data are left behind."""
    file = source / "participants.tsv"
    if not file.is_file():
        return {}
    facts = {}
    for row in read_tsv(file):
        id = row.get("participant_id", "")
        kept = {k: v for k, v in row.items() if v.lower() not in UNKNOWN and not PERSONAL.fullmatch(k)}
        facts[id if id.startswith("sub-") else f"sub-{id}"] = kept
    return facts
