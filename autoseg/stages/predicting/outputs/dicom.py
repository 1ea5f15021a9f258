"""DICOM SEG and RTSTRUCT on the images that a scan came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from autoseg.images.colours import colour
from autoseg.images.dicom import rtstruct_writing, seg_writing, series, uids
from autoseg.images.dicom.drawing import DrawnStructure
from autoseg.images.dicom.facts import read_dataset
from autoseg.images.dicom.gate import Stack
from autoseg.images.dicom.names import standard_name
from autoseg.records.dataset import Case, DicomSource
from autoseg.records.errors import DataError, UserError
from autoseg.records.labels import Labels
from autoseg.stages.predicting.outputs.segmentation import Format, Segmentation, with_suffix

SEG_SUFFIX, RTSTRUCT_SUFFIX, IMAGES = ".seg.dcm", ".rtstruct.dcm", "_images"


def seg_format(*, binary: bool) -> Format:
    """Return the format that writes a SEG, of type LABELMAP or BINARY."""

    def write(segmentation: Segmentation, stem: Path) -> list[Path]:
        path = with_suffix(stem, SEG_SUFFIX)
        seg_writing.write(
            path,
            drawn(segmentation),
            _stack(segmentation, stem),
            about=segmentation.about,
            binary=binary,
            hide_patient_id=_hides(segmentation),
        )
        return [path]

    return Format(write, _kept(SEG_SUFFIX), require_series)


def write_rtstruct(segmentation: Segmentation, stem: Path) -> list[Path]:
    """Write an RTSTRUCT; organs that TG-263 names carry that name."""
    path = with_suffix(stem, RTSTRUCT_SUFFIX)
    rtstruct_writing.write(
        path,
        drawn(segmentation, standard=True),
        _stack(segmentation, stem),
        about=segmentation.about,
        hide_patient_id=_hides(segmentation),
    )
    return [path]


def drawn(segmentation: Segmentation, *, standard: bool = False) -> list[DrawnStructure]:
    """Return what is drawn, numbered from 1 in the order of the labels, under TG-263 names where `standard` asks."""
    own = [name for name, _ in segmentation.labels.targets]
    names = [standard_name(name) or name for name in own]
    if not standard or len(set(names)) < len(names):
        names = own
    return [
        DrawnStructure(name, number, partial(_mask, segmentation, number - 1), colour(number - 1))
        for number, name in enumerate(names, start=1)
    ]


def _mask(segmentation: Segmentation, place: int) -> np.ndarray:
    if segmentation.labels.regions:
        return next(islice(segmentation.masks(), place, None))[2]
    return np.asarray(segmentation.volume.array == segmentation.labels.structures[place].original)


def require_series(scan: Case, new_uids: bool) -> None:
    """Raise a DataError where nothing can be drawn on a scan in DICOM; asked before hours of work, not after them."""
    stack = series.read_stack(_source(scan))
    if new_uids:
        uids.require_single_frames(stack)
    else:
        uids.require_uids(stack)


def _kept(suffix: str) -> Callable[[Case, Labels, Path], list[Path]]:
    def kept(scan: Case, labels: Labels, stem: Path) -> list[Path]:
        path = with_suffix(stem, suffix)
        try:
            read_dataset(path, voxels=True)
        except UserError:
            return []
        return [path]

    return kept


def _stack(segmentation: Segmentation, stem: Path) -> Stack:
    stack = series.read_stack(_source(segmentation.scan))
    difference = stack.grid.difference(segmentation.volume.grid)
    if difference:
        raise DataError(
            f"the images have changed since they were read: {difference}",
            file=stack.slices[0].path.parent,
            fix="Predict again.",
            code="changed_images",
        )
    if not segmentation.new_uids:
        return stack
    folder = with_suffix(stem, IMAGES)
    return uids.with_new_uids(stack, folder, hide_patient_id=segmentation.hide_patient_id)


def _hides(segmentation: Segmentation) -> bool:
    """Whether PatientID is still to be hidden: copies with new UIDs carry the pseudonym already."""
    return segmentation.hide_patient_id and not segmentation.new_uids


def _source(scan: Case) -> DicomSource:
    source = next(iter(scan.images.values()))
    if not isinstance(source, DicomSource):
        raise DataError(
            "is no DICOM series, so there are no images that SEG or RTSTRUCT could be drawn on",
            case=scan.id,
            file=source.files()[0],
            fix="Give the DICOM series to `autoseg predict`, or write --format nifti.",
            code="no_series",
        )
    return source


RTSTRUCT = Format(write_rtstruct, _kept(RTSTRUCT_SUFFIX), require_series)
