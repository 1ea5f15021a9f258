"""What the values of a folder of label maps are called, where a `dataset.json` beside them says so."""

from __future__ import annotations

import json
from pathlib import Path

from autoseg.records.errors import DataError
from autoseg.records.labels import Labels


def check_names(predictions: Path, truths: Path, labels: Labels | None) -> None:
    """Refuse predictions whose structures are called otherwise than those of the truth.

    A folder says what its values are called in `dataset.json` (`"labels": {"liver": 1, ...}`, or the other way round),
    as nnU-Net writes it; a folder without one says nothing. A data set's own names take the place of the truths'.

    Raises:
        DataError: Value by value, a name differs.
    """
    theirs = _names(predictions)
    ours = _names(truths) if labels is None else {item.original: item.name for item in labels.structures}
    for value in sorted(theirs.keys() & ours.keys()):
        if theirs[value] != ours[value]:
            raise DataError(
                f"calls the value {value} {theirs[value]!r}, but the truth calls it {ours[value]!r}",
                file=predictions / "dataset.json",
                fix="Give predictions the values of the truth, or mend the file that is wrong.",
                code="names_differ",
            )


def _names(folder: Path) -> dict[int, str]:
    # -> value -> name; regions (several values) and background are left out, and so is a file of another kind
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = content.get("labels") if isinstance(content, dict) else None
    found = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else ():
        if isinstance(value, str) and key.isdecimal():  # {"1": "liver"}, as the Decathlon has it
            key, value = value, int(key)
        if isinstance(value, int) and not isinstance(value, bool) and value != 0:
            found[value] = str(key)
    return found
