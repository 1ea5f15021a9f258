"""NIfTI in and out: the raw header is judged, the gzip stream is read to its checksum, nothing is made up.

nibabel parses and builds the headers. The voxels are read here, because its reader stops before the checksum and
turns a spacing of 0 into 1. A NIfTI file stores x fastest and directions in RAS; arrays here are (Z, Y, X) and LPS.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from autoseg.images import header as headers
from autoseg.images.header import VolumeHeader
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GZIP_LEVEL = 2  # label maps shrink nearly as well as at 9, in a tenth of the time
READABLE = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}  # the codes of whole and real numbers up to 64 bits
COLOURS = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex"}
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
LONGEST_AXIS_OF_VERSION_1 = 32767


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie within the bytes."""

    header: VolumeHeader
    dtype: np.dtype
    offset: int
    scaling: tuple[float, float] | None

    @property
    def volume_bytes(self) -> int:
        return math.prod(self.header.grid.shape) * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        return self.offset + self.header.volumes * self.volume_bytes


def read(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, VolumeHeader]:
    """Return one volume, (Z, Y, X) with the header's scaling applied, and the header.

    Raises:
        DataError: The file is damaged, no NIfTI, or not one volume of plain numbers on a known grid.
    """
    content = _content(path)
    layout = _layout(path, content)
    if len(content) < layout.total_bytes:
        raise headers.truncated(path, len(content), layout.total_bytes)
    chosen = headers.choose_volume(path, layout.header.volumes, volume)
    start = layout.offset + chosen * layout.volume_bytes
    shape = layout.header.grid.shape
    stored = np.frombuffer(content, layout.dtype, math.prod(shape), start).reshape(shape)
    return _scaled(stored, layout.scaling), layout.header


def read_header(path: Path) -> VolumeHeader:
    """Return the header without reading the voxels.

    Raises:
        DataError: See `read`; damage behind the header is not seen.
    """
    headers.require_file(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(65536)
    except OSError as error:
        raise headers.unreadable(path, error) from error
    if start[:2] == b"\x1f\x8b":
        start = _inflate_start(start, limit=4096)
        return _layout(path, start).header
    layout = _layout(path, start)
    if path.stat().st_size < layout.total_bytes:
        raise headers.truncated(path, path.stat().st_size, layout.total_bytes)
    return layout.header


def encode(path: Path, array: np.ndarray, grid: Grid, *, description: str) -> bytes:
    """Return the bytes of a NIfTI file, compressed if the name ends in `.gz`; equal input gives equal bytes.

    Args:
        path: For the suffix.
        array: (Z, Y, X), of a type that NIfTI knows.
        grid: Where its voxels lie.
        description: For people, at most 79 characters of it.
    """
    version_2 = max(array.shape) > LONGEST_AXIS_OF_VERSION_1
    header = (nibabel.Nifti2Header if version_2 else nibabel.Nifti1Header)(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    affine = RAS_TO_LPS @ grid.affine()[:, [2, 1, 0, 3]]
    header.set_xyzt_units("mm")
    header.set_qform(affine, code=1, strip_shears=True)
    header.set_sform(affine, code=1)
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    header.set_data_offset(544 if version_2 else 352)
    voxels = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    content = b"".join((header.binaryblock, b"\0\0\0\0", voxels.data.cast("B")))  # the voxels are copied once
    return gzip.compress(content, GZIP_LEVEL, mtime=0) if path.name.lower().endswith(".gz") else content


def _content(path: Path) -> bytes:
    raw = headers.read_bytes(path)
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)  # reads on to the checksum and compares it
    except EOFError:
        raise _cut_short(path, raw) from None
    except (OSError, zlib.error) as error:
        raise DataError(
            f"is damaged: its gzip stream is broken ({error})",
            file=path,
            fix="Copy it again from its source.",
            code="bad_checksum",
        ) from None


def _cut_short(path: Path, raw: bytes) -> DataError:
    found = _inflate_start(raw)
    try:
        expected: int | None = _layout(path, found).total_bytes
    except DataError:
        expected = None
    return headers.truncated(path, len(found), expected)


def _inflate_start(raw: bytes, *, limit: int = 0) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, limit)
    except zlib.error:
        return b""


def _layout(path: Path, content: bytes) -> _Layout:
    raw = _parse(path, content)
    code = int(raw["datatype"])
    if code not in READABLE:
        kind = COLOURS.get(code, f"type {code}")
        raise DataError(
            f"holds {kind} voxels where one plain number a voxel is expected",
            file=path,
            fix="Split it into one file a channel.",
            code="vector_voxels",
        )
    shape, volumes = _shape(path, raw)
    grid, notes = _grid(path, raw, shape)
    dtype = raw.get_data_dtype()
    plain = VolumeHeader(grid=grid, volumes=volumes, dtype=dtype.newbyteorder("=").name, notes=notes)
    return _Layout(header=plain, dtype=dtype, offset=_offset(path, raw), scaling=_scaling(path, raw))


def _parse(path: Path, content: bytes) -> nibabel.Nifti1Header:
    size = int.from_bytes(content[:4], "little")
    swapped = int.from_bytes(content[:4], "big")
    for kind, length in ((nibabel.Nifti1Header, 348), (nibabel.Nifti2Header, 540)):
        if length in (size, swapped):
            if len(content) < length:
                raise headers.truncated(path, len(content), length)
            return kind(content[:length], endianness="<" if size == length else ">", check=False)
    raise headers.not_an_image(path, content or path.read_bytes()[:24], expected="NIfTI")


def _shape(path: Path, raw: nibabel.Nifti1Header) -> tuple[tuple[int, int, int], int]:
    count = int(raw["dim"][0])
    if not 1 <= count <= 7:
        raise DataError(f"has {count} axes in its header", file=path, fix="Copy it again.", code="bad_header")
    sizes = [int(size) for size in raw["dim"][1 : count + 1]]
    if min(sizes) < 1:
        raise DataError(
            f"has an axis without voxels: {tuple(sizes)} (x, y, z)",
            file=path,
            fix="Export it again.",
            code="empty_axis",
        )
    sizes += [1] * (7 - count)
    if math.prod(sizes[4:]) > 1:
        raise DataError(
            f"holds a vector of {math.prod(sizes[4:])} numbers a voxel where one is expected",
            file=path,
            fix="Split it into one file a channel.",
            code="vector_voxels",
        )
    return (sizes[2], sizes[1], sizes[0]), sizes[3]


def _grid(path: Path, raw: nibabel.Nifti1Header, shape: tuple[int, int, int]) -> tuple[Grid, tuple[str, ...]]:
    pixdim = _spacing_in_header(path, raw)
    affine = RAS_TO_LPS @ _affine(path, raw)
    notes = []
    unit = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    if unit != 1.0:
        affine[:3] *= unit
        notes.append(f"its unit is {'metres' if unit > 1 else 'micrometres'}; converted to mm")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing <= 0).any():
        raise headers.unknown_spacing(path, f"axes of length {tuple(float(x) for x in spacing)} mm (x, y, z)")
    if not int(raw["sform_code"]) and not int(raw["qform_code"]):
        notes.append("it says nothing of its orientation; left and right are a guess")
    elif not np.allclose(spacing, pixdim * unit, rtol=0.01):
        notes.append(f"pixdim {tuple(map(float, pixdim))} disagrees with the orientation matrix, which was taken")
    rotation, sheared = headers.nearest_rotation(affine[:3, :3] / spacing, file=path)
    notes += [sheared] if sheared else []
    x, y, z = (float(f"{value:.7g}") for value in spacing)  # what float32 knows: 0.977 rather than 0.9769999981
    origin = (float(affine[0, 3]) + 0.0, float(affine[1, 3]) + 0.0, float(affine[2, 3]) + 0.0)
    grid = Grid(shape=shape, spacing_mm=(z, y, x), origin_mm=origin, direction=headers.as_matrix(rotation))
    return headers.check_grid(grid, file=path), tuple(notes)


def _spacing_in_header(path: Path, raw: nibabel.Nifti1Header) -> np.ndarray:
    axes = int(raw["dim"][0])
    for axis in range(axes, 3):  # a 2D file need not say how thick its slice is
        if not raw["pixdim"][axis + 1] > 0:
            raw["pixdim"][axis + 1] = 1.0
    pixdim = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise headers.unknown_spacing(path, f"pixdim {tuple(float(value) for value in pixdim)} (x, y, z)")
    return pixdim


def _affine(path: Path, raw: nibabel.Nifti1Header) -> np.ndarray:
    if raw["pixdim"][0] != -1:
        raw["pixdim"][0] = 1  # the standard reads anything else as 1
    try:
        affine = np.array(raw.get_best_affine(), dtype=np.float64)
    except HeaderDataError as error:
        raise DataError(
            f"has no valid orientation ({error})", file=path, fix="Export it again.", code="bad_geometry"
        ) from None
    if int(raw["dim"][0]) < 3 and not affine[:3, 2].any():
        across = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
    return affine


def _offset(path: Path, raw: nibabel.Nifti1Header) -> int:
    smallest = int(raw["sizeof_hdr"])
    offset = float(raw["vox_offset"])
    if not math.isfinite(offset) or offset < smallest or bytes(raw["magic"].tobytes()[:2]) == b"ni":
        raise DataError(
            "is only the header of a NIfTI pair, or says wrongly where its voxels begin",
            file=path,
            fix="Convert it to a single .nii.gz file.",
            code="bad_header",
        )
    return int(offset)


def _scaling(path: Path, raw: nibabel.Nifti1Header) -> tuple[float, float] | None:
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # the standard: not scaled
        return None
    if not math.isfinite(inter):
        raise DataError(
            f"has scl_slope {slope:g} but scl_inter {inter}", file=path, fix="Export it again.", code="bad_header"
        )
    return None if (slope, inter) == (1.0, 0.0) else (slope, inter)


def _scaled(stored: np.ndarray, scaling: tuple[float, float] | None) -> np.ndarray:
    native = stored.astype(stored.dtype.newbyteorder("="))  # a copy: the bytes behind `stored` are read-only
    if scaling is None:
        return native
    narrow = native.dtype.itemsize <= 2 or native.dtype == np.float32
    slope, inter = scaling
    scaled: np.ndarray = native.astype(np.float32 if narrow else np.float64)
    scaled *= slope
    scaled += inter
    return scaled
