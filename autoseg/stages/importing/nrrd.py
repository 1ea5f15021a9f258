"""What the text at the top of a NRRD file says about a mask, without reading a voxel.

Source: the NRRD format definition (teem.sourceforge.net) and the segmentation fields that 3D Slicer writes.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

LONGEST_HEADER = 1 << 20


def read_fields(path: Path) -> dict[str, str]:
    """Return the fields and keys of a NRRD header, names in lower case; empty when the file is no NRRD."""
    fields: dict[str, str] = {}
    try:
        with open(path, "rb") as stream:
            if not stream.readline(64).startswith(b"NRRD"):
                return {}
            while stream.tell() < LONGEST_HEADER:
                line = stream.readline(LONGEST_HEADER).decode("utf-8", errors="replace").strip()
                if not line:
                    break
                name, _, value = line.partition(":")
                if not line.startswith("#"):
                    fields[name.strip().lower()] = value.lstrip("=").strip()
    except OSError:
        return {}
    return fields


def mask_extent_mm3(path: Path) -> float:
    """Return the volume in mm3 of the box that holds a mask: the segments' extents, else the whole array.

    0 when the header tells neither; damage is the check's to report, not this function's.
    """
    fields = read_fields(path)
    voxel = _voxel_mm3(fields)
    boxes = [_box(value) for name, value in fields.items() if re.fullmatch(r"segment\d+_extent", name)]
    if any(boxes):
        return sum(boxes) * voxel
    sizes = _numbers(fields.get("sizes", ""))
    return math.prod(sizes[-3:]) * voxel if sizes else 0.0


def _box(text: str) -> float:
    """Voxels of `first last` along three axes, both ends included; 0 when empty or no box."""
    numbers = _numbers(text)
    if len(numbers) != 6:
        return 0.0
    return math.prod(max(0.0, last - first + 1) for first, last in zip(numbers[::2], numbers[1::2], strict=True))


def _voxel_mm3(fields: dict[str, str]) -> float:
    columns = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    vectors = [_numbers(column.replace(",", " ")) for column in columns]
    if vectors and all(len(vector) == 3 for vector in vectors):
        return math.prod(math.hypot(*vector) for vector in vectors)
    spacings = [n for n in _numbers(fields.get("spacings", "")) if math.isfinite(n)]
    return math.prod(spacings) if spacings else 1.0


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []
