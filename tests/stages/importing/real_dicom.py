"""Patients cut out of the real CT, small enough to train on, with structure sets that rt-utils drew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from tests.images.dicom.conftest import RealCt

STEP = 8  # every eighth pixel: 64 x 64 of 7.8 mm


def patients(folder: Path, real: RealCt, values: Mapping[str, int], *, count: int) -> Path:
    """Write `count` patients: a series each, its voxels a bit brighter, and an RTSTRUCT of the named label values."""
    import rt_utils

    for number in range(count):
        images = folder / f"patient {number}" / "CT"
        labels = cut(real, images, number)
        builder = rt_utils.RTStructBuilder.create_new(dicom_series_path=str(images))
        for name, value in values.items():
            builder.add_roi(mask=(labels == value).transpose(1, 2, 0), name=name)
        builder.save(str(images.parent / "structures.dcm"))
    return folder


def cut(real: RealCt, folder: Path, number: int) -> np.ndarray:
    """Write the series with every eighth pixel as a patient of its own; return its labels (Z, Y, X)."""
    folder.mkdir(parents=True)
    for place, item in enumerate(real.stack.slices):
        data = pydicom.dcmread(item.path)
        stored = data.pixel_array
        picture = (stored[::STEP, ::STEP] + 2 * number).astype(stored.dtype)
        data.Rows, data.Columns = picture.shape
        data.PixelSpacing = [float(step) * STEP for step in data.PixelSpacing]
        data.PixelData = picture.tobytes()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.PatientID, data.StudyInstanceUID = f"R{number}", f"1.2.7.{number}"
        data.SeriesInstanceUID = f"1.2.7.{number}.1"
        data.FrameOfReferenceUID = f"1.2.7.{number}.2"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.7.{number}.1.{place + 1}"
        data.save_as(folder / f"{place:03d}.dcm", enforce_file_format=True)
    return real.labels[:, ::STEP, ::STEP]
