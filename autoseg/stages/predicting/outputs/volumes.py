"""One label map a scan in one file: NIfTI and MetaImage with the user's own values."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import files
from autoseg.records.dataset import Case
from autoseg.records.errors import UserError
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.segmentation import Format, Segmentation, with_suffix


def volume_format(suffix: str) -> Format:
    """Return the format that writes one file with `suffix`."""

    def write(segmentation: Segmentation, stem: Path) -> list[Path]:
        path = with_suffix(stem, suffix)
        volume = segmentation.volume
        files.write_volume(path, volume.array, volume.grid, description=segmentation.about)
        return [path]

    def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
        return whole([with_suffix(stem, suffix)])

    return Format(write, kept)


def whole(paths: list[Path]) -> list[Path]:
    """Return the paths if every file is there and can be read to its end, else none."""
    try:
        for path in paths:
            several = files.read_header(path).volumes > 1
            files.read_noted(path, volume=0 if several else None)
    except UserError:
        return []
    return paths
