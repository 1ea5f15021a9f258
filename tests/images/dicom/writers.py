"""Small DICOM files, written by pydicom alone, so that what is read was not written by what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
NAME = "Doe^Jane"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_file(path: Path, picture: np.ndarray, *, uid: str, position: Sequence[float], **tags: Any) -> Path:
    """Write one CT slice, (Y, X) in Hounsfield units; any tag can be given another value, None leaves it out."""
    data = Dataset()
    modality = tags.get("Modality", "CT")
    values = {
        "SOPClassUID": STORAGE.get(modality, STORAGE["CT"]), "SOPInstanceUID": uid, "Modality": "CT",
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1", "FrameOfReferenceUID": "1.2.3.9",
        "PatientName": NAME, "PatientID": "12345", "PatientBirthDate": "19500101", "ImageType": ["ORIGINAL", "PRIMARY"],
        "StudyDate": "20200102", "StudyTime": "030405", "ImagePositionPatient": list(position),
        "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [1.5, 0.5], "SliceThickness": 2.0,
        "Rows": picture.shape[0], "Columns": picture.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "PhotometricInterpretation": "MONOCHROME2", "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        "RescaleSlope": 2, "RescaleIntercept": -1000, "SeriesNumber": 1, "InstanceNumber": 1,
    } | tags  # fmt: skip
    for name, value in values.items():
        if value is not None:
            setattr(data, name, value)
    slope, intercept = float(values["RescaleSlope"] or 1), float(values["RescaleIntercept"] or 0)
    data.PixelData = np.rint((picture - intercept) / slope).astype("<i2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"] or STORAGE["CT"]
    data.file_meta.MediaStorageSOPInstanceUID = uid
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, data, enforce_file_format=True)
    return path


def series(folder: Path, array: np.ndarray, *, step: float = 2.0, shear: float = 0.0, **tags: Any) -> list[Path]:
    """Write a stack (Z, Y, X) whose file names say nothing of the order; `shear` mm along y a slice is a tilt."""
    series_uid = tags.get("SeriesInstanceUID", "1.2.3.1")
    order = np.random.default_rng(1).permutation(len(array))
    return [
        slice_file(
            folder / f"IM{place:03d}",
            array[z],
            uid=f"{series_uid or '1.9'}.{z + 1}",
            position=(-10.0, -20.0 + shear * z, 30.0 + step * z),
            **tags,
        )
        for place, z in enumerate(order)
    ]


def volume(shape: tuple[int, int, int] = (6, 12, 16), seed: int = 0) -> np.ndarray:
    """Even Hounsfield units, so that a slope of 2 keeps them."""
    return 2.0 * np.random.default_rng(seed).integers(-400, 400, shape)
