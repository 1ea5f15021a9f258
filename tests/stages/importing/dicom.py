"""Small patients in DICOM: a CT each with an RTSTRUCT (or a SEG), in folders that say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.images.dicom import gate, seg_writing
from autoseg.images.dicom.drawing import DrawnStructure
from autoseg.images.dicom.facts import read_facts
from tests.images.dicom import writers
from tests.images.dicom.test_rtstruct import structure_set

SHAPE = (6, 12, 16)
CUBES = {"liver": (1, 4, 4), "spleen": (2, 3, 9)}  # first voxel (z, y, x) of a cube of 3 x 3 x 3


def cube_mm(name: str) -> list[tuple[str, np.ndarray]]:
    """The contours of a cube on the grid that `writers.series` writes."""
    z0, y0, x0 = CUBES[name]
    low = np.array([-10.0, -20.0]) + np.array([0.5, 1.5]) * (np.array([x0, y0]) - 0.5)
    high = low + 3 * np.array([0.5, 1.5])
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    return [("CLOSED_PLANAR", np.array([(x, y, 30.0 + 2.0 * (z0 + z)) for x, y in corners])) for z in range(3)]


def tags(number: int, **more: Any) -> dict[str, Any]:
    return {
        "StudyInstanceUID": f"1.2.{number + 1}", "SeriesInstanceUID": f"1.2.{number + 1}.1",
        "FrameOfReferenceUID": f"1.2.{number + 1}.9", "PatientID": f"MRN{number}",
    } | more  # fmt: skip


def study(folder: Path, number: int, rois: Mapping[str, str], **more: Any) -> Path:
    """Write one patient; `rois` is name in the file -> which cube is drawn."""
    values = tags(number, **more)
    writers.series(folder / "ct", writers.volume(SHAPE, seed=number), **values)
    contours = [(name, cube_mm(cube)) for name, cube in rois.items()]
    structure_set(folder / "rs" / "RS.1", *contours, frame=values["FrameOfReferenceUID"])
    return folder


def studies(folder: Path, numbers: Iterable[int]) -> Path:
    for number in numbers:
        study(folder / f"Doe_{number}", number, {"Liver": "liver", "Milz": "spleen"})
    return folder


def ids(numbers: Iterable[int]) -> list[str]:
    """Return the ids that these patients' series have: digests of PatientID and SeriesInstanceUID."""
    series = {number: sha256(f"1.2.{number + 1}.1".encode()).hexdigest()[:6] for number in numbers}
    return sorted(
        f"p{sha256(f'MRN{number}'.encode()).hexdigest()[:8]}_CT_{digest}" for number, digest in series.items()
    )


def study_with_seg(folder: Path, number: int, names: Iterable[str]) -> Path:
    """Write one patient with a DICOM SEG of cubes called by their names."""
    paths = writers.series(folder / "ct", writers.volume(SHAPE, seed=number), **tags(number))
    stack = gate.build([read_facts(path) for path in paths])
    drawn = []
    for place, name in enumerate(names, start=1):
        mask = np.zeros(SHAPE, bool)
        z, y, x = CUBES[name]
        mask[z : z + 3, y : y + 3, x : x + 3] = True
        drawn.append(DrawnStructure(name, place, partial(np.copy, mask), (9, 9, 9)))
    seg_writing.write(folder / "seg" / "x", drawn, stack, about="test")
    return folder
