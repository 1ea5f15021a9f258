"""Which classes a case holds, read from the label files where that is cheap, so that folds can be stratified."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.records.dataset import Case, FileSource, MaskSource
from autoseg.records.errors import UserError
from autoseg.records.labels import Labels

MOST_VOXELS = 200_000_000


def find_classes(cases: Sequence[Case], labels: Labels) -> dict[str, frozenset[str]] | None:
    """Return case id -> names of the structures it holds, or None where reading that would take long.

    A mask counts by its file being there; a label file is read. One that cannot be read counts as empty: the check
    says what is wrong with it.
    """
    files = [Path(case.labels.path) for case in cases if isinstance(case.labels, FileSource)]
    if _voxels(files) > MOST_VOXELS:
        return None
    names = {item.original: item.name for item in labels.structures}
    inside = {item.value: item.name for item in labels.structures}
    return {case.id: _classes(case, names, inside) for case in cases}


def _classes(case: Case, names: dict[int, str], inside: dict[int, str]) -> frozenset[str]:
    if isinstance(case.labels, MaskSource):
        return frozenset(inside[mask.value] for mask in case.labels.masks)
    if not isinstance(case.labels, FileSource):
        return frozenset()
    from autoseg.images.files import read_volume

    try:
        array, _ = read_volume(Path(case.labels.path), volume=case.labels.volume)
    except UserError:
        return frozenset()
    # Only what is labelled gets sorted: the background is most of the voxels. NaN compares as False.
    labelled = array[(array > 0) & (array <= max(names))]
    return frozenset(names[int(value)] for value in np.unique(labelled) if value in names)


def _voxels(files: Sequence[Path]) -> int:
    """Return how many voxels the files hold together, by their headers."""
    from autoseg.images.files import read_header

    total = 0
    for path in files:
        with contextlib.suppress(UserError):
            total += math.prod(read_header(path).grid.shape)
        if total > MOST_VOXELS:
            break
    return total
