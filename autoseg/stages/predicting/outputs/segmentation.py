"""What a writer is given, and what every format is: a way to write, and a way to find what an earlier run wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.records.dataset import Case
from autoseg.records.labels import Labels
from autoseg.records.volumes import LabelMap


@dataclass(frozen=True)
class Segmentation:
    """What was predicted of one scan, ready to be written.

    Attributes:
        scan: Its id, and the files that it was read from.
        volume: The user's own values, (Z, Y, X) on the scan's grid.
        labels: What the values mean.
        about: Where it came from, for people.
        regions: Bit k of each voxel says whether it belongs to region k, unsigned (Z, Y, X); None without regions.
        new_uids: Whether DICOM may be drawn on a copy of the images with new UIDs.
        hide_patient_id: Whether DICOM carries a pseudonym in place of PatientID.
    """

    scan: Case
    volume: LabelMap
    labels: Labels
    about: str = ""
    regions: np.ndarray | None = None
    new_uids: bool = False
    hide_patient_id: bool = False

    def masks(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Yield name, the user's own value and bool (Z, Y, X) of each region, or of each structure without regions.

        Regions may overlap; structures do not.
        """
        array = self.volume.array
        if not self.labels.regions:
            for item in self.labels.structures:
                yield item.name, item.original, array == item.original
            return
        originals = {item.value: item.original for item in self.labels.structures}
        for place, region in enumerate(self.labels.regions):
            if self.regions is None:
                yield region.name, region.original, np.isin(array, [originals[value] for value in region.values])
            else:
                yield region.name, region.original, (self.regions >> place & 1).astype(np.bool_)


def any_scan(scan: Case, new_uids: bool) -> None:
    """Accept every scan."""


@dataclass(frozen=True)
class Format:
    """One way to write a prediction; `stem` is the path of the output folder and the scan's id, without a suffix.

    Attributes:
        write: (segmentation, stem) -> the files that were written, each there whole or not at all.
        kept: (scan, labels, stem) -> the files of an earlier run, if all of them are there and whole; else none.
        require: (scan, whether new UIDs may be made) -> raises a DataError where this scan cannot be written so.
    """

    write: Callable[[Segmentation, Path], list[Path]]
    kept: Callable[[Case, Labels, Path], list[Path]]
    require: Callable[[Case, bool], None] = any_scan


def with_suffix(stem: Path, suffix: str) -> Path:
    """Return `stem` with `suffix` behind it; a dot in the scan's id stays."""
    return stem.with_name(stem.name + suffix)


def file_names(labels: Labels) -> dict[str, str]:
    """Return target name -> a name that is safe and distinct as a file's, upper and lower case alike."""
    found: dict[str, str] = {}
    for name, _ in labels.targets:
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._") or "structure"
        taken = {other.lower() for other in found.values()}
        number, candidate = 2, plain
        while candidate.lower() in taken:
            candidate, number = f"{plain}_{number}", number + 1
        found[name] = candidate
    return found
