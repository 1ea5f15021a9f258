"""What a first stage proposes to a second one for small lesions, and how the probability for it was chosen."""

from __future__ import annotations

from typing import Literal

from autoseg.records.record import Record


class ProposalPoint(Record):
    """What comes of one probability, on cases that no network had trained on.

    Attributes:
        threshold: Voxels of this probability or more are proposed.
        sensitivity: Share of the lesions of which half or more lies in regions; nan without a lesion.
        proposals_per_case: Mean number of proposals.
        empty_per_case: Mean number of proposals whose region holds no lesion.
        region_fraction: Mean share of the image that lies in regions.
    """

    threshold: float
    sensitivity: float
    proposals_per_case: float
    empty_per_case: float
    region_fraction: float


class ProposalChoice(Record):
    """The proposals that one fold of a second stage is trained on.

    Attributes:
        stage: `ModelId.candidate()` of the first stage.
        cases, lesions: Of the fold's training cases; its held-out cases have no say.
        wanted_sensitivity: That the plan asks for.
        chosen: The highest probability that reaches it; where none does, the most sensitive one.
        points: Every probability that was looked at.
        weights: Case -> digest of the first stage's weights that predicted it without having trained on it.
        inputs_digest: Of all that the proposals follow from.
    """

    schema_version: Literal[1] = 1
    stage: str
    cases: int
    lesions: int
    wanted_sensitivity: float
    chosen: ProposalPoint
    points: tuple[ProposalPoint, ...]
    weights: dict[str, str]
    inputs_digest: str
