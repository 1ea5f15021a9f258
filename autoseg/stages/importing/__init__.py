"""Import: a folder in a published layout becomes a Dataset. One module a layout; nothing is copied or changed."""

from autoseg.stages.importing.assembling import import_dataset
from autoseg.stages.importing.draft import Draft, Grouping, ImportOptions
from autoseg.stages.importing.folds import make_folds, read_splits, write_splits

__all__ = [
    "Draft",
    "Grouping",
    "ImportOptions",
    "import_dataset",
    "make_folds",
    "read_splits",
    "write_splits",
]
