"""What stands beside stored arrays: that they are whole, what they were made from, and the way home."""

from __future__ import annotations

from autoseg.records.record import Record
from autoseg.records.volumes import Passage


class CaseMarker(Record):
    """Stands beside a preprocessed case and says that it is complete.

    Attributes:
        inputs_digest: Digest of the case's sources (path, size, time of change), the corrections and everything in
            the configuration that preprocessing reads; another one means that the case must be done again.
        files: Name -> SHA-256 of each array file beside the marker.
    """

    case: str
    inputs_digest: str
    files: dict[str, str]
    annotated: tuple[int, ...]
    passage: Passage
    voxels: tuple[int, ...]


class StoredField(Record):
    """Stands beside the probabilities that a model gave a held-out case, and tells the way home.

    Attributes:
        inputs_digest: Digest of the weights and of the case's sources; another one means predict again.
        seconds: What the prediction took.
        steadiness: (structures, signs) of `images.steadiness`: what the model says of the scan a little changed; empty
            in older files.
        signs: Their names; those of another version are not read.
    """

    case: str
    member: str
    passage: Passage
    inputs_digest: str
    seconds: float
    steadiness: tuple[tuple[float, ...], ...] = ()
    signs: tuple[str, ...] = ()
