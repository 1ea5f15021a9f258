"""What is drawn on a series and written as DICOM: named masks, and what every object repeats of the series."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoseg import __version__
from autoseg.images.dicom.facts import pseudonym, read_dataset
from autoseg.images.dicom.gate import Stack
from autoseg.images.dicom.uids import make_uid, without_names

if TYPE_CHECKING:
    from pydicom import Dataset

LONGEST_TEXT = 64  # of VR LO
TAKEN_OVER = (
    "SpecificCharacterSet", "PatientID", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "FrameOfReferenceUID", "PositionReferenceIndicator",
)  # fmt: skip


@dataclass(frozen=True)
class DrawnStructure:
    """One structure that was found in a scan.

    Attributes:
        name: At most 64 characters of it are written.
        number: From 1 up, distinct.
        mask: Called, it gives bool (Z, Y, X) on the stack's grid: a hundred masks at once would not fit in memory.
        colour: Red, green, blue, 0 to 255.
    """

    name: str
    number: int
    mask: Callable[[], np.ndarray]
    colour: tuple[int, int, int]


def source_headers(stack: Stack, *, hide_patient_id: bool) -> list[Dataset]:
    """Return the headers of the images, without the name of anybody, in the order of the slices.

    A multi-frame file has one header, that of all its frames.

    Args:
        stack: The images.
        hide_patient_id: Whether PatientID becomes its pseudonym; an archive finds the patient only by the true one.
    """
    found = [without_names(read_dataset(path)) for path in dict.fromkeys(item.path for item in stack.slices)]
    for data in found:
        # Empty, it means the default repertoire, as where it is absent; writers take only the latter.
        if not data.get("SpecificCharacterSet", "default"):
            del data.SpecificCharacterSet
        data.PatientID = pseudonym(str(data.get("PatientID") or "")) if hide_patient_id else data.get("PatientID") or ""
        for name in ("PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
            if name not in data:
                setattr(data, name, "")
    return found


def content_uid(kind: str, stack: Stack, about: str, content: Iterable[bytes]) -> str:
    """Return the UID of an object that says this about these images."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return make_uid(kind, stack.slices[0].series, about, digest.hexdigest())


def software() -> str:
    """Return what objects name as the software that made them."""
    return f"autoseg {__version__}"


def short(text: str) -> str:
    """Return as much of a text as a field of the kind LO holds; backslashes would part it in two."""
    return text.replace("\\", "/").strip()[:LONGEST_TEXT]
