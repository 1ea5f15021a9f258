"""How far a model's probabilities may be believed, and what its doubt says of its own mistakes."""

from __future__ import annotations

from typing import ClassVar

from autoseg.records.record import GrowingRecord, Record


class ReliabilityBin(Record):
    """What was true of the voxels whose likeliest class (or region) was believed about equally much.

    Attributes:
        confidence: Mean of what the model said, 0 to 1.
        accuracy: Share of them that were right.
        voxels: How many; never 0.
    """

    confidence: float
    accuracy: float
    voxels: int


class TemperatureFit(GrowingRecord):
    """One temperature for every logit of an ensemble's members, fitted out of fold.

    Attributes:
        temperature: What logits are divided by; above 1 where the members were too sure of themselves.
        nll_before, nll_after: Mean negative log-likelihood a voxel, in nats, without and with it.
        error_before, error_after: Expected calibration error: mean distance of confidence and accuracy over 15 bins of
            confidence, weighted by their voxels.
        bins_before, bins_after: Those of the 15 bins that hold a voxel, from unsure to sure; none in older files.
        cases, voxels: That it was fitted on; voxels that all members hold for sure background are not among them.
    """

    LATER: ClassVar[tuple[str, ...]] = ("bins_before", "bins_after")

    temperature: float
    nll_before: float
    nll_after: float
    error_before: float
    error_after: float
    cases: int
    voxels: int
    bins_before: tuple[ReliabilityBin, ...] = ()
    bins_after: tuple[ReliabilityBin, ...] = ()
