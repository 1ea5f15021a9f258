"""Label pictures with the user's own values or colours: one a picture or slice, one file for a TIFF stack."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import cases, colour_labels, files
from autoseg.records.dataset import Case, Channel, SlicesSource
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.segmentation import Format, Segmentation, with_suffix
from autoseg.stages.predicting.outputs.volumes import volume_format, whole
from autoseg.storage import write_bytes

TIF = volume_format(".tif")


def write(segmentation: Segmentation, stem: Path) -> list[Path]:
    """Write `case.png`, or for several slices `case/<name of the slice>.png`."""
    volume = segmentation.volume
    paths = slice_files(segmentation.scan, volume.array.shape[0], stem)
    flat = volume.grid.model_copy(update={"shape": (1, *volume.grid.shape[1:])})
    for path, picture in zip(paths, volume.array, strict=True):
        if segmentation.labels.painted:
            write_bytes(path, colour_labels.encode(picture, segmentation.labels))
        else:
            files.write_volume(path, picture[None], flat)
    return paths


def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
    """Return the pictures of an earlier run, if all are there and whole."""
    return whole(slice_files(scan, slice_count(scan), stem))


def slice_count(scan: Case) -> int:
    """Return how many slices a scan has, from its header."""
    channels = [Channel(name=name, kind="other") for name in scan.images]
    return cases.read_grid(scan.images, channels).shape[0]


def slice_files(scan: Case, count: int, stem: Path) -> list[Path]:
    """Return where each slice goes: under the name of the picture that it was, else `slice_0001.png`."""
    source = next(iter(scan.images.values()))
    if isinstance(source, SlicesSource):
        return [stem / f"{files.strip_suffix(Path(path).name)}.png" for path in source.paths]
    if count == 1:
        return [with_suffix(stem, ".png")]
    return [stem / f"slice_{number:04d}.png" for number in range(1, count + 1)]


PNG = Format(write, kept)
