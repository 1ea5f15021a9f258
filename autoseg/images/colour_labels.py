"""Label pictures painted in colours: one colour a structure, black for the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images import files, label_values, pictures
from autoseg.images.colours import Colour
from autoseg.images.header import VolumeHeader
from autoseg.records.errors import DataError
from autoseg.records.labels import Labels


def read_codes(path: Path) -> tuple[np.ndarray, VolumeHeader]:
    """Return red * 65536 + green * 256 + blue of every pixel, int32 (Z, Y, X), and the header; grey counts as a colour.

    Raises:
        DataError: The picture cannot be read, or its colours are no bytes.
    """
    header = files.read_header(path)
    if header.dtype != "uint8" or header.volumes not in (1, 3):
        raise DataError(
            f"has {header.volumes} colours of {header.dtype} where a mask painted in colours is expected",
            file=path,
            fix="Save it with red, green and blue of 8 bits, without transparency.",
            code="coloured_picture",
        )
    volumes = range(3) if header.volumes == 3 else (0, 0, 0)
    red, green, blue = (files.read_noted(path, volume=place)[0].astype(np.int32) for place in volumes)
    return (red << 16) + (green << 8) + blue, header


def read(path: Path, labels: Labels) -> tuple[np.ndarray, VolumeHeader]:
    """Return the inside values (Z, Y, X) of a mask painted in the colours of `labels`, and the header.

    Raises:
        DataError: See `read_codes`; or a colour was not declared.
    """
    codes, header = read_codes(path)
    known = {0: 0} | {code(item.colour): item.value for item in labels.structures if item.colour is not None}
    found, places = np.unique(codes, return_inverse=True)
    odd = [int(value) for value in found if int(value) not in known]
    if odd:
        raise DataError(
            f"is painted in {len(odd)} colours that were not declared, the first {words(odd[0])}",
            file=path,
            fix="Masks must be saved without loss and without soft edges; or import again.",
            code="undeclared_label",
        )
    table = np.array([known[int(value)] for value in found], label_values.inside_type(labels))
    return table[places].reshape(codes.shape), header


def encode(array: np.ndarray, labels: Labels) -> bytes:
    """Return a png of a label map with the user's own values, painted in the colours of `labels`.

    Args:
        array: Integer, (Y, X).
        labels: Gives each value its colour; a structure without one is white.
    """
    table = np.zeros((int(max(item.original for item in labels.structures)) + 1, 3), np.uint8)
    for item in labels.structures:
        table[item.original] = item.colour or (255, 255, 255)
    return pictures.encode_colours(table[array])


def code(colour: Colour | None) -> int:
    """Return red * 65536 + green * 256 + blue."""
    red, green, blue = colour or (0, 0, 0)
    return (red << 16) + (green << 8) + blue


def words(value: int) -> str:
    """Return a code as `#ff8000`."""
    return f"#{value:06x}"
