"""Run lengths of all scans in one table `submission.csv`: id, class, predicted, as Kaggle's UW-Madison wants it.

Runs are `start length` pairs, counted from 1 along the rows; classes may overlap; a class that is absent in a slice has
an empty cell. Source: the evaluation page of the Kaggle competition "UW-Madison GI Tract Image Segmentation" (2022).
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from autoseg.images import slices
from autoseg.records.dataset import Case, SlicesSource
from autoseg.records.errors import UserError
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.pictures import slice_count
from autoseg.stages.predicting.outputs.segmentation import Segmentation
from autoseg.storage import write_bytes

FILE = "submission.csv"
COLUMNS = ("id", "class", "predicted")
SLICE = re.compile(r"(slice_\d+)(?:_.*)?", re.IGNORECASE)

Row = tuple[str, str, str]


def write(segmentation: Segmentation, stem: Path) -> list[Path]:
    """Put the rows of one scan into the table, in place of those that it has of this scan."""
    path = stem.with_name(FILE)
    ids = slice_ids(segmentation.scan, segmentation.volume.array.shape[0])
    texts: dict[tuple[str, str], str] = {}
    for name, _, mask in segmentation.masks():
        texts |= {(id, name): slices.encode(plane) for id, plane in zip(ids, mask, strict=True)}
    names = [name for name, _ in segmentation.labels.targets]
    mine = [(id, name, texts[id, name]) for id in ids for name in names]
    known = set(ids)
    others = [row for row in _rows(path) if row[0] not in known]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([*others, *mine])
    write_bytes(path, buffer.getvalue().encode())
    return [path]


def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
    """Return the table of an earlier run, if it has a row for each slice and class of this scan."""
    path = stem.with_name(FILE)
    wanted = {(id, name) for id in slice_ids(scan, slice_count(scan)) for name, _ in labels.targets}
    try:
        there = {row[:2] for row in _rows(path)}
    except UserError:
        return []
    return [path] if wanted <= there else []


def slice_ids(scan: Case, count: int) -> list[str]:
    """Return the id of each slice: the scan's for a picture, else with `_slice_0001` as its files or places have it."""
    source = next(iter(scan.images.values()))
    if isinstance(source, SlicesSource):
        found = [SLICE.match(Path(path).name) for path in source.paths]
        numbered = [match[1] if match else f"slice_{z:04d}" for z, match in enumerate(found, start=1)]
        return [f"{scan.id}_{name}" for name in numbered]
    if count == 1:
        return [scan.id]
    return [f"{scan.id}_slice_{z:04d}" for z in range(1, count + 1)]


def _rows(path: Path) -> list[Row]:
    return list(slices.read_rows(path, text=COLUMNS[2])) if path.exists() else []
