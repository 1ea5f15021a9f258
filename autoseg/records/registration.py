"""How one channel of one case was brought onto the first one, kept so that it is searched for once."""

from __future__ import annotations

from autoseg.records.record import Record

Row = tuple[float, float, float, float]


class Motion(Record):
    """A rigid motion that was found, or found wanting.

    Attributes:
        case: Whose channel it is.
        channel: Its name.
        inputs_digest: Digest of both images' voxels and grids and of the method; another one means search again.
        matrix: Rows of the (4, 4) matrix from a place in the first channel to the place in this one that shows the
            same, both LPS (x, y, z, 1), mm; the identity where the motion was not accepted.
        metric_before: Negative mutual information with the geometry of the headers; lower is better. Infinite where
            the two did not overlap.
        metric_after: The same with `matrix`.
        accepted: False where the search found nothing better, or something absurd: the headers' geometry was kept.
        shift_mm: How far the centre of the first channel's field moved.
        turn_degrees: By how much it turned.
        corner_mm: How far the corner of the field that moved most did.
    """

    schema_version: int = 1
    case: str
    channel: str
    inputs_digest: str
    matrix: tuple[Row, Row, Row, Row]
    metric_before: float
    metric_after: float
    accepted: bool
    shift_mm: float
    turn_degrees: float
    corner_mm: float
