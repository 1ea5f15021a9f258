"""NRRD and MetaImage (mha, mhd) in and out by SimpleITK, with the checks of size and spacing that it leaves out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from autoseg.images import header as headers
from autoseg.images.header import VolumeHeader
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid

CHUNK = 1 << 20
ITEM_BYTES = {
    "char": 1, "uchar": 1, "signed char": 1, "unsigned char": 1, "int8": 1, "int8_t": 1, "uint8": 1, "uint8_t": 1,
    "short": 2, "ushort": 2, "unsigned short": 2, "short int": 2, "signed short": 2, "unsigned short int": 2,
    "int16": 2, "int16_t": 2, "uint16": 2, "uint16_t": 2,
    "int": 4, "uint": 4, "signed int": 4, "unsigned int": 4, "int32": 4, "int32_t": 4, "uint32": 4, "uint32_t": 4,
    "long": 8, "ulong": 8, "longlong": 8, "ulonglong": 8, "long long": 8, "unsigned long long": 8,
    "long long int": 8, "signed long long": 8, "signed long long int": 8, "unsigned long long int": 8,
    "int64": 8, "int64_t": 8, "uint64": 8, "uint64_t": 8, "long_long": 8, "ulong_long": 8,
    "float": 4, "double": 8,
}  # fmt: skip
NAMES = {"MET_" + name.replace(" ", "_").upper(): size for name, size in ITEM_BYTES.items()} | {
    "MET_LONG": 0,
    "MET_ULONG": 0,  # four bytes on one system, eight on another
}


@dataclass(frozen=True)
class _Stored:
    """What the text header says of the voxels behind it.

    Attributes:
        fields: Its keys in lower case, and their values.
        data: The file that holds the voxels, or None where they are spread over several.
        offset: Where they begin in it.
        expected: How many bytes they are once unpacked, or 0 where that is not known.
        packed: Whether they are a gzip or zlib stream.
    """

    fields: dict[str, str]
    data: Path | None
    offset: int
    expected: int
    packed: bool


def read(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, VolumeHeader]:
    """Return one volume, (Z, Y, X), and the header; the components of a vector and the layers of a 4D file count.

    Raises:
        DataError: The file is damaged, of another kind, or not one volume of plain numbers on a known grid.
    """
    reader, header = _open(path)
    _check_complete(path, _stored(path))
    chosen = headers.choose_volume(path, header.volumes, volume)
    array = sitk.GetArrayFromImage(_run(path, reader.Execute))
    if reader.GetNumberOfComponents() > 1:
        array = array[..., chosen]
    elif reader.GetDimension() == 4:
        array = array[chosen]
    return np.ascontiguousarray(array.reshape(header.grid.shape)), header


def read_header(path: Path) -> VolumeHeader:
    """Return the header without reading the voxels.

    Raises:
        DataError: See `read`; damage behind the header is not seen.
    """
    return _open(path)[1]


def write(path: Path, array: np.ndarray, grid: Grid, *, description: str) -> None:
    """Write (Z, Y, X) voxels, compressed, in the format of the suffix."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection([value for row in grid.direction for value in row])
    if description:
        image.SetMetaData("description", description.encode("ascii", "replace").decode())
    _run(path, lambda: sitk.WriteImage(image, str(path), useCompression=True))


def _open(path: Path) -> tuple[sitk.ImageFileReader, VolumeHeader]:
    headers.require_file(path)
    stored = _stored(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    _run(path, reader.ReadImageInformation)
    dimensions, sizes = reader.GetDimension(), reader.GetSize()
    components = reader.GetNumberOfComponents()
    if not 2 <= dimensions <= 4 or (dimensions == 4 and components > 1):
        raise DataError(
            f"has {dimensions} axes of {components} numbers a voxel",
            file=path,
            fix="Split it into one 3D file a channel.",
            code="vector_voxels",
        )
    volumes = components * (sizes[3] if dimensions == 4 else 1)
    dtype = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue()).split(" of ")[-1]
    grid, notes = _grid(path, reader)
    notes += _spacing_notes(path, stored.fields)
    names = {"float": "32-bit float"}
    return reader, VolumeHeader(grid=grid, volumes=volumes, dtype=_dtype_name(names.get(dtype, dtype)), notes=notes)


def _dtype_name(words: str) -> str:
    """Return NumPy's name for ITK's words such as `16-bit signed integer`."""
    bits, _, kind = words.partition("-bit ")
    prefix = "float" if "float" in kind else "uint" if "unsigned" in kind else "int"
    return f"{prefix}{bits}" if bits.isdigit() else words


def _grid(path: Path, reader: sitk.ImageFileReader) -> tuple[Grid, tuple[str, ...]]:
    dimensions = reader.GetDimension()
    used = min(dimensions, 3)
    spacing, origin, size = [1.0] * 3, [0.0] * 3, [1] * 3
    spacing[:used], origin[:used] = reader.GetSpacing()[:used], reader.GetOrigin()[:used]
    size[:used] = reader.GetSize()[:used]
    direction = np.eye(3)
    direction[:used, :used] = np.reshape(reader.GetDirection(), (dimensions, dimensions))[:used, :used]
    rotation, sheared = headers.nearest_rotation(direction, file=path)
    grid = Grid(
        shape=(size[2], size[1], size[0]),
        spacing_mm=(spacing[2], spacing[1], spacing[0]),
        origin_mm=(origin[0], origin[1], origin[2]),
        direction=headers.as_matrix(rotation),
    )
    return headers.check_grid(grid, file=path), (sheared,) if sheared else ()


def _spacing_notes(path: Path, fields: dict[str, str]) -> tuple[str, ...]:
    """Judge the spacing as it is written, because ITK turns one that is missing or not a number into 1 mm."""
    keys = ("space directions", "spacings", "elementspacing", "elementsize")
    written = [fields[key] for key in keys if key in fields]
    if not written:
        return ("its header gives no spacing; 1 mm was taken",)
    for word in written[0].replace("none", "").replace("(", " ").replace(")", " ").replace(",", " ").split():
        if word.lower().lstrip("+-").startswith(("nan", "inf")):
            raise headers.unknown_spacing(path, f"spacing {written[0]}")
    if "space directions" not in fields and any(float(word) == 0 for word in written[0].split()):
        raise headers.unknown_spacing(path, f"spacing {written[0]}")
    return ()


def _stored(path: Path) -> _Stored:
    with path.open("rb") as stream:
        start = stream.read(CHUNK)
    if start.startswith(b"NRRD"):
        return _nrrd(path, start)
    if b"=" in start[:200] and b"ElementDataFile" in start:
        return _meta(path, start)
    raise headers.not_an_image(path, start, expected="NRRD or MetaImage")


def _nrrd(path: Path, start: bytes) -> _Stored:
    text, _, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = {}
    for line in text.decode("latin-1").split("\n")[1:]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    name = fields.get("data file", fields.get("datafile"))
    if name is None:
        data, offset = path, start.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in start else start.find(b"\n\n") + 2
    else:
        data, offset = (None if " " in name or name == "LIST" else path.parent / name), 0
    encoding = fields.get("encoding", "raw").lower()
    plain = encoding in {"raw", "gzip", "gz"} and "byte skip" not in fields and "line skip" not in fields
    sizes = [int(word) for word in fields.get("sizes", "0").split()]
    expected = math.prod(sizes) * ITEM_BYTES.get(fields.get("type", ""), 0) if plain else 0
    return _Stored(fields, data, offset, expected, packed=encoding != "raw")


def _meta(path: Path, start: bytes) -> _Stored:
    fields, offset = {}, 0
    for line in start.splitlines(keepends=True):
        key, _, value = line.decode("latin-1").partition("=")
        fields[key.strip().lower()] = value.strip()
        offset += len(line)
        if key.strip().lower() == "elementdatafile":
            break
    name = fields.get("elementdatafile", "LOCAL")
    local = name.upper() == "LOCAL"
    data = path if local else None if " " in name or "%" in name or name == "LIST" else path.parent / name
    item = NAMES.get(fields.get("elementtype", ""), 0) * int(fields.get("elementnumberofchannels", "1"))
    plain = fields.get("binarydata", "true").lower() == "true" and "headersize" not in fields
    expected = math.prod(int(word) for word in fields.get("dimsize", "0").split()) * item if plain else 0
    packed = fields.get("compresseddata", "false").lower() == "true"
    return _Stored(fields, data, offset if local else 0, expected, packed=packed)


def _check_complete(path: Path, stored: _Stored) -> None:
    if stored.data is None or not stored.expected:
        return
    headers.require_file(stored.data)
    if not stored.packed:
        found = stored.data.stat().st_size - stored.offset
    else:
        try:
            found = sum(_unpacked_lengths(stored.data, stored.offset))
        except zlib.error as error:
            raise DataError(
                f"is damaged: its compressed stream is broken ({error})",
                file=path,
                fix="Copy it again from its source.",
                code="bad_checksum",
            ) from None
    if found < stored.expected:
        raise headers.truncated(path, found, stored.expected)


def _unpacked_lengths(path: Path, offset: int) -> Iterator[int]:
    """Yield how many bytes each part of the stream gives; the checksum at its end is compared by zlib."""
    with path.open("rb") as stream:
        stream.seek(offset)
        unpack = zlib.decompressobj(wbits=47)
        while part := stream.read(CHUNK):
            yield len(unpack.decompress(part))


def _run(path: Path, action):  # type: ignore[no-untyped-def]
    """Call into SimpleITK silently; its errors become one sentence that names the file."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return action()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].split("ERROR:")[-1].strip() or "no reason given"
        raise DataError(
            f"cannot be read by SimpleITK ({reason})",
            file=path,
            fix="Copy it again, or convert it to .nii.gz.",
            code="unreadable_file",
        ) from None
