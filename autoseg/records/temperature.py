"""How far a model's probabilities may be believed, and what its doubt says of its own mistakes."""

from __future__ import annotations

from autoseg.records.record import Record


class TemperatureFit(Record):
    """One temperature for every logit of an ensemble's members, fitted out of fold.

    Attributes:
        temperature: What logits are divided by; above 1 where the members were too sure of themselves.
        nll_before, nll_after: Mean negative log-likelihood a voxel, in nats, without and with it.
        error_before, error_after: Expected calibration error: mean distance of confidence and accuracy over 15 bins of
            confidence, weighted by their voxels.
        cases, voxels: That it was fitted on; voxels that all members hold for sure background are not among them.
    """

    temperature: float
    nll_before: float
    nll_after: float
    error_before: float
    error_after: float
    cases: int
    voxels: int
