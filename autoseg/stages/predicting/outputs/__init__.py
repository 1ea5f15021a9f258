"""What a prediction is written as: one module a format, one table name -> format.

A new format is a module with `write(segmentation, stem)` and `kept(scan, labels, stem)`, and one line in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

from autoseg.images.files import NIFTI_SUFFIXES, PICTURE_SUFFIXES
from autoseg.images.pictures import TIFF_SUFFIXES
from autoseg.records.dataset import Case, DicomSource, SlicesSource
from autoseg.records.errors import UsageError
from autoseg.stages.predicting.outputs import dicom, masks, nrrd, pictures, rle
from autoseg.stages.predicting.outputs.doubt import quality_of, write_doubt
from autoseg.stages.predicting.outputs.label_file import write_label_file
from autoseg.stages.predicting.outputs.probabilities import write_probabilities
from autoseg.stages.predicting.outputs.segmentation import Format, Segmentation
from autoseg.stages.predicting.outputs.volumes import volume_format

__all__ = [
    "DICOM",
    "FORMATS",
    "Format",
    "Segmentation",
    "check_format",
    "choose",
    "format_of",
    "quality_of",
    "write_doubt",
    "write_label_file",
    "write_probabilities",
]

FORMATS: dict[str, Format] = {
    "nifti": volume_format(".nii.gz"),
    "nrrd": Format(nrrd.write, nrrd.kept),
    "mha": volume_format(".mha"),
    "png": pictures.PNG,
    "tif": pictures.TIF,
    "masks": Format(masks.write, masks.kept),
    "rle": Format(rle.write, rle.kept),
    "dicom-seg": dicom.seg_format(binary=False),
    "dicom-seg-binary": dicom.seg_format(binary=True),
    "rtstruct": dicom.RTSTRUCT,
}
DICOM = ("dicom-seg", "dicom-seg-binary", "rtstruct")  # drawn on the images of a series, and on nothing else


def check_format(name: str | None) -> None:
    """Raise a UsageError when there is no format of this name; None and "auto" are decided scan by scan."""
    if name not in (None, "auto", *FORMATS):
        fix = f"There are auto, {', '.join(FORMATS)}."
        raise UsageError(f"there is no format {name!r}", fix=fix, code="unknown_format")


def choose(name: str | None, scan: Case) -> Format:
    """Return how one scan is written: as named, with "auto" as it came in, with None NIfTI unless it is pictures."""
    check_format(name)
    if name not in (None, "auto"):
        return FORMATS[str(name)]
    found = format_of(scan)
    return FORMATS[found if name == "auto" or found in ("png", "tif") else "nifti"]


def format_of(scan: Case) -> str:
    """Return the name of the format that a scan came in; pictures that lose something (jpg, bmp) become png."""
    source = next(iter(scan.images.values()))
    suffix = Path(source.files()[0]).name.lower()
    if isinstance(source, SlicesSource):
        return "png"
    if isinstance(source, DicomSource):
        return "dicom-seg"
    if suffix.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if suffix.endswith(TIFF_SUFFIXES):
        return "tif"
    if suffix.endswith(PICTURE_SUFFIXES):
        return "png"
    return "mha" if suffix.endswith((".mha", ".mhd")) else "nrrd"
