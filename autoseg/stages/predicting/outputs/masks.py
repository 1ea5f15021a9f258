"""One binary mask a structure, `case/segmentations/liver.nii.gz`, as TotalSegmentator has it; they may overlap."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import files
from autoseg.records.dataset import Case
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.segmentation import Segmentation, file_names
from autoseg.stages.predicting.outputs.volumes import whole

FOLDER = "segmentations"


def write(segmentation: Segmentation, stem: Path) -> list[Path]:
    """Write a file a structure (or region), empty ones too: an empty mask says that nothing was found."""
    names, grid = file_names(segmentation.labels), segmentation.volume.grid
    written = []
    for name, _, mask in segmentation.masks():
        path = stem / FOLDER / f"{names[name]}.nii.gz"
        files.write_volume(path, mask, grid, description=segmentation.about)
        written.append(path)
    return written


def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
    """Return the masks of an earlier run, if all are there and whole."""
    return whole([stem / FOLDER / f"{name}.nii.gz" for name in file_names(labels).values()])
