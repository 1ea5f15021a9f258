"""What was measured of a data set: everything that planning may know."""

from __future__ import annotations

from typing import ClassVar, Literal

from autoseg.records.dataset import Channel
from autoseg.records.geometry import Shape, Triple
from autoseg.records.labels import Labels
from autoseg.records.record import GrowingRecord, Record


class Intensity(Record):
    """Statistics of one channel over the foreground voxels of all cases, in the channel's own unit."""

    channel: str
    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    p00_5: float
    p99_5: float


class CaseFacts(Record):
    """What was measured of one case, in canonical orientation, cropped to where any channel is not zero.

    Attributes:
        id: The case.
        shape: Cropped voxels along (z, y, x).
        spacing_mm: Along (z, y, x), in mm.
        crop_fraction: Voxels kept by the crop over voxels before.
        voxels: Voxels a structure, in the order of the labels.
    """

    id: str
    shape: Shape
    spacing_mm: Triple
    crop_fraction: float
    voxels: tuple[int, ...]


class StructureFacts(Record):
    """What was measured of one structure over all cases where it was annotated.

    Attributes:
        name: Of the structure.
        annotated_cases: Cases where somebody looked for it.
        present_cases: Cases where it was found.
        volume_ml: 5th, 50th and 95th percentile of its volume where present, in ml.
        extent_mm: Median size of its bounding box along (z, y, x), in mm.
        centroid: Median centre as fractions of the cropped image along (z, y, x).
    """

    name: str
    annotated_cases: int
    present_cases: int
    volume_ml: Triple
    extent_mm: Triple
    centroid: Triple


class PieceFacts(Record):
    """The connected pieces of all structures together, where they are many, small and sparse: lesions.

    Attributes:
        per_case: 5th, 50th and 95th percentile of how many a case holds that holds any.
        volume_ml: The same of a piece's volume, in ml.
        longest_mm: The same of the longest side of a piece's bounding box, in mm.
        image_fraction: Median share of a cropped image that they take up together.
    """

    per_case: Triple
    volume_ml: Triple
    longest_mm: Triple
    image_fraction: float


class Fingerprint(GrowingRecord):
    """The data set in numbers.

    Attributes:
        dataset_digest: Digest of the Dataset that was measured; another one makes this record stale.
        cases: Training cases only; test cases are never looked at.
        groups: How many patients.
        pieces: Of all structures together; None where the typical case holds a single piece or large ones.
    """

    LATER: ClassVar[tuple[str, ...]] = ("pieces",)

    schema_version: Literal[1] = 1
    dataset: str
    dataset_digest: str
    channels: tuple[Channel, ...]
    labels: Labels
    groups: int
    cases: tuple[CaseFacts, ...]
    intensities: tuple[Intensity, ...]
    structures: tuple[StructureFacts, ...]
    pieces: PieceFacts | None = None
