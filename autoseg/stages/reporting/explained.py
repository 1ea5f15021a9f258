"""What a model looks at, as pictures over the scan: one page, and every picture as a file of its own."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg import __version__
from autoseg.images import orientation
from autoseg.records.volumes import Image, LabelMap
from autoseg.stages.predicting import Explanation, Method
from autoseg.stages.reporting import figures
from autoseg.stages.reporting.templates import write_page
from autoseg.storage import write_bytes


@dataclass(frozen=True)
class Explained:
    """One case, one model, and its maps.

    Attributes:
        model: `ModelId.key()`.
        prediction: The model's own label map, in the scan's geometry like the maps.
        stems: File name, without a suffix, of each map.
    """

    dataset: str
    case: str
    model: str
    method: Method
    image: Image
    prediction: LabelMap
    maps: tuple[Explanation, ...]
    stems: tuple[str, ...]


@dataclass(frozen=True)
class _Shown:
    target: str
    picture: str
    file: str
    empty: bool
    shares: Sequence[tuple[str, float]]


def write_explained(found: Explained, folder: Path) -> Path:
    """Write `explained.html` and `<stem>.png` of each map into a folder, and return the page's path."""
    array, grid = orientation.orient(found.image.array, found.image.grid)
    prediction = LabelMap(orientation.orient(found.prediction.array, found.image.grid)[0], grid)
    shown = []
    for item, stem in zip(found.maps, found.stems, strict=True):
        picture = figures.heat(array[0], orientation.orient(item.field, found.image.grid)[0], prediction)
        write_bytes(folder / f"{stem}.png", base64.b64decode(picture.partition(",")[2]))
        shares = sorted(item.shares.items(), key=lambda pair: -pair[1])
        shown.append(_Shown(item.target, picture, f"{stem}.nii.gz", not item.field.any(), shares))
    return write_page(folder / "explained.html", "explained.html.j2", found=found, maps=shown, version=__version__)
