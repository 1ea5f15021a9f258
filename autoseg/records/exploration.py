"""The data alone, case by case: what a person wants to see before anything is trained."""

from __future__ import annotations

from typing import Literal

from autoseg.records.geometry import Shape, Triple
from autoseg.records.record import Record

QUANTILES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)


class ExploredChannel(Record):
    """One channel of one case, in its own unit.

    Attributes:
        quantiles: At `QUANTILES`, over the voxels that are not 0 in every channel.
        structure_medians: Structure -> median of the channel within it.
    """

    channel: str
    quantiles: tuple[float, ...]
    structure_medians: dict[str, float] = {}


class ExploredCase(Record):
    """One case, axes along the patient's.

    Attributes:
        shape: Voxels along (z, y, x), nothing cropped.
        spacing_mm: Along (z, y, x), in mm.
        volumes_ml: Structure -> volume, 0 where it is absent; structures that nobody annotated here are missing.
        channels: Those that the case has.
    """

    id: str
    shape: Shape
    spacing_mm: Triple
    volumes_ml: dict[str, float]
    channels: tuple[ExploredChannel, ...]


class Exploration(Record):
    """Every training case that could be read, in the data set's order.

    Attributes:
        dataset_digest: Of the Dataset that was looked at; another one makes this record stale.
        unread: Case -> why it could not be read.
    """

    schema_version: Literal[1] = 1
    dataset_digest: str
    cases: tuple[ExploredCase, ...]
    unread: dict[str, str] = {}
