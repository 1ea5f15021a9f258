"""The real CT of twenty slices, with new UIDs, and the labels drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files
from autoseg.images.dicom import finding, gate, uids
from autoseg.images.dicom.drawing import DrawnStructure
from autoseg.images.dicom.gate import Stack


@dataclass(frozen=True)
class RealCt:
    """The series with new UIDs in `folder`, its stack, and its labels (Z, Y, X) on the stack's grid."""

    folder: Path
    stack: Stack
    labels: np.ndarray

    def structures(self, *values: int) -> list[DrawnStructure]:
        chosen = values or tuple(int(value) for value in np.unique(self.labels) if value)
        return [drawn(f"structure {value}", number, self.labels == value) for number, value in enumerate(chosen, 1)]


def drawn(name: str, number: int, mask: np.ndarray) -> DrawnStructure:
    return DrawnStructure(name, number, lambda: mask, (200, 10 * number % 255, 30))


@pytest.fixture(scope="session")
def real_series(real_data: Path) -> Path:
    """The folder of the real series as it was published: its UIDs are empty."""
    return real_data / "dicom_ct_series"


@pytest.fixture(scope="session")
def real_ct(real_data: Path, real_series: Path, tmp_path_factory: pytest.TempPathFactory) -> RealCt:
    folder = tmp_path_factory.mktemp("ct") / "images"
    (found,) = finding.find(real_series).series
    stack = uids.with_new_uids(gate.build(found.slices), folder)
    labels, grid = files.read_volume(real_data / "dicom_ct_series_labels.nii.gz")
    flipped = labels[:, ::-1]  # the file runs against y; its first row is the last one of the images
    y = grid.origin_mm[1] - (grid.shape[1] - 1) * grid.spacing_mm[1]
    assert (grid.origin_mm[0], y, grid.origin_mm[2]) == pytest.approx(stack.grid.origin_mm)
    return RealCt(folder, stack, flipped)
