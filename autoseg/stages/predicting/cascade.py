"""What the second stage of a cascade sees of the first: its label map, on the second stage's network grid."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import regrid, store
from autoseg.records.labels import Labels
from autoseg.records.volumes import LabelMap, Passage
from autoseg.stages.predicting.fields import follow
from autoseg.stages.predicting.held_out import region_values, stored_field


def stored_label_map(folder: Path, case: str, labels: Labels) -> LabelMap:
    """Return what a first stage said of a case that it never saw, in the scan's geometry."""
    field = stored_field(folder, case, labels.output)
    array = regrid.home([field], output=labels.output, region_values=region_values(labels))
    return LabelMap(array, field.passage.original)


def write_previous(file: Path, label_map: LabelMap, passage: Passage) -> None:
    """Keep the first stage's label map of one case on the second stage's network grid."""
    store.write_array(file, follow(label_map, passage))
