"""`.seg.nrrd` with names and colours, as 3D Slicer opens it; regions that overlap lie in layers."""

from __future__ import annotations

from pathlib import Path

from autoseg.images import segments
from autoseg.images.colours import colour
from autoseg.images.segments import Segment
from autoseg.records.dataset import Case
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.segmentation import Segmentation, with_suffix
from autoseg.stages.predicting.outputs.volumes import whole
from autoseg.storage import write_bytes

SUFFIX = ".seg.nrrd"


def write(segmentation: Segmentation, stem: Path) -> list[Path]:
    """Write one file; a value that two regions share, or that is 0, becomes the region's number."""
    named = [(name, value) for name, value, _ in segmentation.masks()]
    values = [value for _, value in named]
    if len(set(values)) < len(values) or min(values) < 1:
        values = list(range(1, len(values) + 1))
    if segmentation.labels.regions:
        masks = [mask for _, _, mask in segmentation.masks()]
        layers, places = segments.stack(masks, values)
    else:
        layers, places = segmentation.volume.array[None], [0] * len(values)
    own = {item.name: item.colour for item in segmentation.labels.structures}
    listed = [
        Segment(name=name, value=value, colour=own.get(name) or colour(number), layer=place)
        for number, ((name, _), value, place) in enumerate(zip(named, values, places, strict=True))
    ]
    path = with_suffix(stem, SUFFIX)
    content = segments.encode(layers, segmentation.volume.grid, listed, description=segmentation.about)
    write_bytes(path, content)
    return [path]


def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
    """Return the file of an earlier run, if it is there and whole."""
    return whole([with_suffix(stem, SUFFIX)])
