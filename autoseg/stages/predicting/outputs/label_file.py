"""`labels.txt`: names and colours of the values, as ITK-SNAP loads them beside any label map."""

from __future__ import annotations

from pathlib import Path

from autoseg.images.colours import colour
from autoseg.records.labels import Labels
from autoseg.storage import write_bytes

FILE = "labels.txt"
HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def write_label_file(folder: Path, labels: Labels) -> Path:
    """Write the label description of ITK-SNAP for the user's own values, and return its path."""
    rows = [_row(0, (0, 0, 0), "Clear Label", shown=False)]
    written: set[int] = set()
    named = [(item.original, item.name) for item in (labels.regions or labels.structures)]
    for number, (value, name) in enumerate(named):
        if value > 0 and value not in written:
            rows.append(_row(value, colour(number), name, shown=True))
            written.add(value)
    path = folder / FILE
    write_bytes(path, (HEAD + "".join(rows)).encode())
    return path


def _row(value: int, rgb: tuple[int, int, int], name: str, *, shown: bool) -> str:
    red, green, blue = rgb
    plain = name.replace('"', "'").replace("\n", " ")
    on = int(shown)
    return f'{value:5d} {red:5d} {green:4d} {blue:4d} {on:8d} {on:2d} {on:2d}    "{plain}"\n'
