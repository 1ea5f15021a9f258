"""A DICOM series as one volume: Hounsfield units of CT, stored values of MR, SUV of PET."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.images.dicom import gate, multiframe, suv
from autoseg.images.dicom.facts import SliceFacts, read_facts
from autoseg.images.dicom.gate import Stack
from autoseg.images.header import VolumeHeader
from autoseg.records.dataset import DicomSource
from autoseg.records.errors import DataError


def read(source: DicomSource) -> tuple[np.ndarray, VolumeHeader]:
    """Return the voxels, float32 (Z, Y, X), rescaled as each slice's header says, and the header.

    z runs along the cross product of row and column, whatever the files are called. A tilted gantry is set upright;
    what lies beside a slice then has the smallest value of the scan. PET in Bq/ml becomes SUV by body weight.

    Raises:
        DataError: See `gate.build` and `suv.factor`; or the voxels are damaged, or compressed in a way that nobody
            here reads.
    """
    stack = read_stack(source)
    array = np.stack([_voxels(item) for item in stack.slices])
    notes = list(stack.notes)
    if stack.slices[0].modality == "PT":
        array *= np.array([suv.factor(item.path) for item in stack.slices], np.float32)[:, None, None]
        notes.append(suv.NOTE)
    if stack.drift_pixels is not None:
        array = _upright(array, stack)
    return array, _header(stack, notes)


def read_header(source: DicomSource) -> VolumeHeader:
    """Return where the voxels lie, from headers alone.

    Raises:
        DataError: See `gate.build`.
    """
    stack = read_stack(source)
    return _header(stack, stack.notes)


def read_stack(source: DicomSource) -> Stack:
    """Return the slices of a series in order, and their grid.

    Raises:
        DataError: See `gate.build`.
    """
    return gate.build([read_facts(Path(path)) for path in source.paths])


def _header(stack: Stack, notes: Sequence[str]) -> VolumeHeader:
    return VolumeHeader(grid=stack.grid, volumes=1, dtype="float32", notes=tuple(notes))


def _voxels(item: SliceFacts) -> np.ndarray:
    """Return one picture, float32 (Y, X), with its own slope and intercept applied."""
    if item.frame is not None:
        return _frame_voxels(item)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(item.path))
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise _undecoded(item) from None
    if array.size != item.size[0] * item.size[1]:
        raise _undecoded(item)
    return np.asarray(array, np.float32).reshape(item.size)


def _frame_voxels(item: SliceFacts) -> np.ndarray:
    try:
        array = multiframe.pixels(item)
    except ValueError:
        raise _undecoded(item) from None
    if array.shape != item.size:
        raise _undecoded(item)
    return array


def _undecoded(item: SliceFacts) -> DataError:
    from pydicom.uid import UID

    uid = UID(item.transfer_syntax)
    if not uid.is_transfer_syntax or uid.is_compressed:
        return DataError(
            f"its voxels cannot be decoded; they are stored as {uid.name} ({item.transfer_syntax})",
            file=item.path,
            fix="It is damaged, or in a form that GDCM does not read: convert it (`gdcmconv --raw` or `dcmdjpeg`).",
            code="undecoded_voxels",
        )
    return DataError(
        "its voxels are damaged or cut short",
        file=item.path,
        fix="Copy it again from its archive.",
        code="truncated_file",
    )


def _upright(array: np.ndarray, stack: Stack) -> np.ndarray:
    """Move each slice by its drift, linearly, on a canvas that holds all of them."""
    from scipy import ndimage

    assert stack.drift_pixels is not None
    lowest = float(array.min())
    canvas = np.full(stack.grid.shape, lowest, np.float32)
    for target, picture, drift in zip(canvas, array, stack.drift_pixels, strict=True):
        padded = np.full(target.shape, lowest, np.float32)
        padded[: picture.shape[0], : picture.shape[1]] = picture
        ndimage.shift(padded, drift, output=target, order=1, mode="constant", cval=lowest, prefilter=False)
    return canvas
