"""What a file says about its voxels before they are read, and the checks that every format shares."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid, Matrix

LARGEST_SPACING_MM = 100.0
LARGEST_EXTENT_MM = 5000.0
NOTED_ANGLE_DEGREES = 0.05


@dataclass(frozen=True)
class VolumeHeader:
    """The geometry and the type of a file's voxels.

    Attributes:
        grid: Of one volume.
        volumes: How many volumes (or colours, or layers) the file holds; 1 for a plain 3D image.
        dtype: NumPy's name of the stored type, before any scaling.
        notes: What is odd about the file and how it was taken, for people.
    """

    grid: Grid
    volumes: int
    dtype: str
    notes: tuple[str, ...] = ()


def require_file(path: Path) -> Path:
    """Return `path` if a file with content lies there.

    Raises:
        DataError: It is missing, a link to nothing (the target is named), a folder, empty, or may not be read.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"is a broken link: its target {os.readlink(path)} does not exist",
            file=path,
            fix="Restore the target or mend the link.",
            code="broken_link",
        )
    if not path.exists():
        raise DataError("does not exist", file=path, fix="Check the path, or copy the file there.", code="missing_file")
    if path.is_dir():
        raise DataError("is a folder, not an image file", file=path, fix="Name a file.", code="not_an_image")
    if path.stat().st_size == 0:
        raise DataError("is empty (0 bytes)", file=path, fix="Copy it again from its source.", code="empty_file")
    return path


def read_bytes(path: Path) -> bytes:
    """Return the whole content of a file.

    Raises:
        DataError: See `require_file`.
    """
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a file that the system does not let us read."""
    return DataError(
        f"cannot be read: {error.strerror or error}",
        file=path,
        fix="Check its permissions and the disk it lies on.",
        code="unreadable_file",
    )


def not_an_image(path: Path, start: bytes, *, expected: str) -> DataError:
    """Return the error for a file whose first bytes are not those of `expected`; it shows them."""
    shown = start[:24].decode("latin-1").encode("unicode_escape").decode()
    looks_html = start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
    what = "a web page" if looks_html else f"no {expected} file"
    fix = "Download it again (a login or error page was saved in its place)." if looks_html else "Copy it again."
    return DataError(f"is {what}: it begins with '{shown}'", file=path, fix=fix, code="not_an_image")


def truncated(path: Path, found: int, expected: int | None) -> DataError:
    """Return the error for a file that ends early: `found` of `expected` bytes of content."""
    share = f"{found:,} of {expected:,} bytes" if expected else f"{found:,} bytes, then nothing more"
    return DataError(
        f"is truncated: it holds {share} of content",
        file=path,
        fix="Copy it again from its source.",
        code="truncated_file",
    )


def check_grid(grid: Grid, *, file: Path) -> Grid:
    """Return `grid` if a patient could have been scanned on it.

    Raises:
        DataError: An axis has no voxels, or the spacing or the field of view is not one of a body in millimetres.
    """
    if min(grid.shape) < 1:
        raise DataError(
            f"has an axis without voxels: shape {grid.shape} (z, y, x)",
            file=file,
            fix="Export it again.",
            code="empty_axis",
        )
    spacing = "(" + ", ".join(f"{value:.4g}" for value in grid.spacing_mm) + ")"
    if not all(math.isfinite(value) and value > 0 for value in grid.spacing_mm):
        raise unknown_spacing(file, f"spacing {spacing} mm (z, y, x)")
    if not np.isfinite(grid.origin_mm).all():
        raise DataError(
            f"has no finite origin: {grid.origin_mm}", file=file, fix="Export it again.", code="bad_geometry"
        )
    extent = max(grid.extent_mm())
    if max(grid.spacing_mm) > LARGEST_SPACING_MM or extent > LARGEST_EXTENT_MM:
        raise DataError(
            f"has spacing {spacing} mm (z, y, x), a field of view of {extent / 1000:.3g} m",
            file=file,
            fix="Is its unit really mm? Write the true spacing into the header.",
            code="absurd_spacing",
        )
    return grid


def unknown_spacing(file: Path, found: str) -> DataError:
    """Return the error for a header that does not say how large a voxel is."""
    return DataError(
        f"has {found} in its header, so the size of its voxels is unknown",
        file=file,
        fix="Write the true spacing into the header; autoseg does not guess it.",
        code="unknown_spacing",
    )


def nearest_rotation(columns: np.ndarray, *, file: Path) -> tuple[np.ndarray, str | None]:
    """Return the orthonormal matrix nearest to unit `columns`, and a note when it differs visibly.

    Args:
        columns: (3, 3), one unit vector an array axis; a mirrored (left-handed) set stays mirrored.
        file: For the message.

    Raises:
        DataError: The columns do not span space.

    Source:
        Polar decomposition by singular values: Higham 1986, doi:10.1137/0907079.
    """
    left, singular, right = np.linalg.svd(columns)
    if singular[-1] < 0.1:
        raise DataError(
            "has axes that lie in one plane",
            file=file,
            fix="Write a valid orientation into the header.",
            code="bad_geometry",
        )
    rotation = left @ right
    whole = np.round(rotation)
    rotation = np.where(np.abs(rotation - whole) < 1e-6, whole, rotation) + 0.0  # + 0.0 turns -0 into 0
    cosine = np.clip((rotation * columns).sum(axis=0), -1.0, 1.0).min()
    angle = math.degrees(math.acos(cosine))
    if angle < NOTED_ANGLE_DEGREES:
        return rotation, None
    return rotation, f"its axes are sheared; the nearest rotation was taken (an axis turned by {angle:.2f} degrees)"


def as_matrix(direction: np.ndarray) -> Matrix:
    """Return a (3, 3) array as the rows that a Grid holds."""
    first, second, third = ((float(row[0]), float(row[1]), float(row[2])) for row in direction)
    return (first, second, third)


def choose_volume(path: Path, volumes: int, volume: int | None) -> int:
    """Return which volume of a file to read.

    Raises:
        DataError: It holds several and none was named, or the one named is not there.
    """
    if volume is None and volumes > 1:
        raise DataError(
            f"holds {volumes} volumes where one is expected",
            file=path,
            fix="Are they channels or time points? Split the file, or name the volume that a channel is.",
            code="several_volumes",
        )
    if volume is not None and not 0 <= volume < volumes:
        raise DataError(
            f"has no volume {volume}: it holds {volumes}", file=path, fix="Count from 0.", code="missing_volume"
        )
    return volume or 0
