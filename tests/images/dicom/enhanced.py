"""Enhanced multi-frame files, written by pydicom alone, with shared and per-frame functional groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.images.dicom.writers import AXIAL, NAME

STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}


def item(**values: object) -> Dataset:
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def file(
    path: Path,
    frames: np.ndarray,
    positions: Sequence[Sequence[float]],
    *,
    modality: str = "CT",
    slopes: Sequence[float] | None = None,
    orientation: Sequence[float] = AXIAL,
) -> Path:
    """Write frames (N, Y, X) in the order given, each at its position; a slope for each stands in its own groups."""
    data = item(
        SOPClassUID=STORAGE[modality], SOPInstanceUID=f"1.2.3.1.{len(frames)}", Modality=modality,
        StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", FrameOfReferenceUID="1.2.3.9", PatientName=NAME,
        PatientID="12345", PatientBirthDate="19500101", PatientSex="F", ImageType=["ORIGINAL", "PRIMARY", "VOLUME"],
        StudyDate="20200102", StudyTime="030405", StudyID="1", AccessionNumber="1", SeriesNumber=1, InstanceNumber=1,
        Rows=frames.shape[1], Columns=frames.shape[2], NumberOfFrames=len(frames), SamplesPerPixel=1,
        BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1, PhotometricInterpretation="MONOCHROME2",
    )  # fmt: skip
    measures = item(PixelSpacing=[1.5, 0.5], SliceThickness=2.0)
    shared = item(PixelMeasuresSequence=[measures])
    if slopes is None:
        shared.PixelValueTransformationSequence = [item(RescaleSlope=2.0, RescaleIntercept=-1000.0, RescaleType="HU")]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, position in enumerate(positions):
        group = item(
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[number + 1])
            ],
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        )
        if slopes is not None:
            scale = item(RescaleSlope=slopes[number], RescaleIntercept=-1000.0, RescaleType="US")
            group.PixelValueTransformationSequence = [scale]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    steps = np.full(len(frames), 2.0) if slopes is None else np.asarray(slopes)
    data.PixelData = np.rint((frames + 1000) / steps[:, None, None]).astype("<i2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, data, enforce_file_format=True)
    return path


def stack(path: Path, array: np.ndarray, *, step: float = 2.0, seed: int = 1, **more: object) -> Path:
    """Write a stack (Z, Y, X) whose frames are stored in an order that says nothing."""
    order = np.random.default_rng(seed).permutation(len(array))
    positions = [(-10.0, -20.0, 30.0 + step * int(z)) for z in order]
    return file(path, array[order], positions, **more)  # type: ignore[arg-type]
