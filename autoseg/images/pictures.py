"""Pictures (png, jpg, bmp by Pillow, tif by tifffile) as volumes of one slice, with pixels of 1 mm."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from autoseg.images import header as headers
from autoseg.images.header import VolumeHeader
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid

TIFF_SUFFIXES = (".tif", ".tiff")
PIXEL_NOTE = "a picture does not say how large its pixels are; 1 mm was taken"


def read(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, VolumeHeader]:
    """Return one colour of a picture as (1, Y, X), or a TIFF stack as (Z, Y, X), and the header.

    Colours that are all equal count as one grey channel; an alpha channel that hides nothing is dropped. `volume`
    names a colour: 0 red, 1 green, 2 blue.

    Raises:
        DataError: The file is damaged or no picture, or it is coloured and no colour was named.
    """
    colours, header = _open(path)
    volumes = header.volumes
    if volume is None and volumes > 1:
        raise DataError(
            f"is coloured ({volumes} different channels) where one grey channel is expected",
            file=path,
            fix="For an image, declare its colours as channels; save a label picture with one grey value a class.",
            code="coloured_picture",
        )
    chosen = headers.choose_volume(path, volumes, volume)
    return np.ascontiguousarray(colours[..., chosen]), header


def read_header(path: Path) -> VolumeHeader:
    """Return a picture's size and number of colours; it is read whole, because grey is seen only in the pixels.

    Raises:
        DataError: The file is damaged or no picture.
    """
    return _open(path)[1]


def encode(path: Path, array: np.ndarray) -> bytes:
    """Return the bytes of a picture of a (1, Y, X) array (TIFF: any Z) of unsigned bytes or 16-bit words.

    Raises:
        DataError: The array has several slices, or values that the format cannot hold.
    """
    buffer = io.BytesIO()
    if path.suffix.lower() in TIFF_SUFFIXES:
        tifffile.imwrite(buffer, array if array.shape[0] > 1 else array[0], compression="zlib", metadata=None)
        return buffer.getvalue()
    if array.shape[0] != 1 or path.suffix.lower() in {".jpg", ".jpeg"}:
        raise DataError(
            f"cannot hold {array.shape[0]} slices without loss",
            file=path,
            fix="Write .nii.gz instead.",
            code="cannot_hold",
        )
    Picture.fromarray(_as_unsigned(path, array[0])).save(buffer, format="BMP" if path.suffix == ".bmp" else "PNG")
    return buffer.getvalue()


def encode_colours(array: np.ndarray) -> bytes:
    """Return the bytes of a png of red, green and blue, uint8 (Y, X, 3)."""
    buffer = io.BytesIO()
    Picture.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def _as_unsigned(path: Path, array: np.ndarray) -> np.ndarray:
    kinds = (np.uint8,) if path.suffix.lower() == ".bmp" else (np.uint8, np.uint16)
    low, high = array.min(), array.max()
    for kind in kinds:
        whole = np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_
        if whole and low >= 0 and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise DataError(
        f"cannot hold {array.dtype} values from {low} to {high}",
        file=path,
        fix="Write .nii.gz or .tif instead.",
        code="cannot_hold",
    )


def _open(path: Path) -> tuple[np.ndarray, VolumeHeader]:
    colours, notes = _colours(path)
    shape = (colours.shape[0], colours.shape[1], colours.shape[2])
    grid = headers.check_grid(Grid(shape=shape, spacing_mm=(1.0, 1.0, 1.0)), file=path)
    return colours, VolumeHeader(grid=grid, volumes=colours.shape[3], dtype=colours.dtype.name, notes=notes)


def _colours(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (Z, Y, X, colours): one colour where the picture is grey."""
    content = headers.read_bytes(path)
    array = _tiff(path, content) if path.suffix.lower() in TIFF_SUFFIXES else _pillow(path, content)
    notes = [PIXEL_NOTE]
    if array.shape[3] in (2, 4):
        alpha = array[..., -1]
        opaque = np.iinfo(alpha.dtype).max if np.issubdtype(alpha.dtype, np.integer) else 1.0
        if (alpha == opaque).all():
            array = array[..., :-1]
            notes.append("its alpha channel hides nothing and was dropped")
    if array.shape[3] == 3 and (array == array[..., :1]).all():
        array = array[..., :1]
    return array, tuple(notes)


def _pillow(path: Path, content: bytes) -> np.ndarray:
    if content.startswith(b"\x89PNG\r\n") and b"IEND" not in content[-64:]:
        raise headers.truncated(path, len(content), None)  # Pillow forgives a missing end
    try:
        with Picture.open(io.BytesIO(content)) as picture:
            picture.load()
            array = np.asarray(picture)
    except UnidentifiedImageError:
        raise headers.not_an_image(path, content, expected="picture") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        Picture.DecompressionBombError,
        Picture.DecompressionBombWarning,
    ) as error:
        raise _damaged(path, error) from None
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    return (array if array.ndim == 3 else array[..., None])[None]


def _tiff(path: Path, content: bytes) -> np.ndarray:
    if content[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise headers.not_an_image(path, content, expected="TIFF")
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series = file.series[0]
            array, axes = series.asarray(), series.axes
    except Exception as error:  # tifffile lets the errors of many codecs through
        raise _damaged(path, error) from None
    array = np.moveaxis(array, axes.index("S"), -1) if "S" in axes else array[..., None]
    if not 3 <= array.ndim <= 4:
        raise DataError(
            f"has the axes {axes}, which are no slices of one scan",
            file=path,
            fix="Split it into one stack a channel.",
            code="several_volumes",
        )
    return array if array.ndim == 4 else array[None]


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"is a damaged picture ({error})", file=path, fix="Copy it again from its source.", code="truncated_file"
    )
