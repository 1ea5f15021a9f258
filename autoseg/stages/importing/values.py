"""Label values that nobody named: looked up in some of the label files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.records.errors import DataError, UserError
from autoseg.records.labels import Labels
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.structures import make_labels

MOST_FILES = 20
MOST_VALUES = 500


def labels_from_files(files: Sequence[Path], *, source: Path) -> tuple[Labels, str]:
    """Return structures `class_<value>` for the values found in at most `MOST_FILES` files, and which were read.

    The files are spread evenly over the list. A value that only another file holds is found by the check.

    Raises:
        DataError: None of them can be read, or none holds a value above 0, or there are too many to be labels.
    """
    looked = [files[index * len(files) // min(len(files), MOST_FILES)] for index in range(min(len(files), MOST_FILES))]
    values: set[int] = set()
    for path in looked:
        values |= _values(path)
    if not values or len(values) > MOST_VALUES:
        raise DataError(
            f"{len(values) or 'no'} label values above 0 were found in {len(looked)} label files",
            file=source,
            fix='Name the labels ("labels": {"background": 0, "liver": 1}), or check that these are label files.',
            code="no_labels",
        )
    names = enumerate_cases([path.name for path in looked], most=MOST_FILES)
    note = f"Label values have no names, so they were looked up in {len(looked)} of {len(files)} files ({names})."
    return make_labels({value: f"class_{value}" for value in values}), note


def _values(path: Path) -> set[int]:
    """Return the whole numbers above 0 in a file; none when it cannot be read, which the check reports."""
    from autoseg.images.files import read_volume

    try:
        array, _ = read_volume(path)
    except UserError:
        return set()
    return {int(value) for value in np.unique(array[array > 0]) if np.isfinite(value) and value == int(value)}
