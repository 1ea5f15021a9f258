"""Which of the planned configurations are worth training, and how a budget is shared among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.records.plan import LineupEntry
from autoseg.stages.planning.reasons import Reasoned

Kind = str  # "2d", "3d", "3d_lowres", "3d_cascade", "3d_regions"

SLICES_WORTHWHILE = 2.0


@dataclass(frozen=True)
class Situation:
    """What the choice depends on.

    Attributes:
        flat: The data are 2D.
        anisotropy: Largest over smallest target spacing.
        low_resolution: The full-resolution patch sees too little of an image (rule 10).
        short: A budget allows fewer steps than the full recipe wants.
        regions: Small lesions get a second stage of their own.
        by_hand: Somebody asked for that, so that it does not wait for a longer budget.
    """

    flat: bool
    anisotropy: float
    low_resolution: bool
    short: bool
    regions: bool = False
    by_hand: bool = False


def weights(situation: Situation, dimensions: Sequence[str]) -> dict[Kind, Reasoned[float]]:
    """Return the weight of each configuration worth training, in training order; a second stage after its first.

    Args:
        situation: Of the data and the budget.
        dimensions: What the network can do: "2d", "3d".
    """
    if situation.flat:
        return {"2d": Reasoned(1.0, "the data are 2D")} if "2d" in dimensions else {}
    chosen: dict[Kind, Reasoned[float]] = {}
    if "3d" in dimensions:
        chosen["3d"] = Reasoned(4.0, "a network that sees the neighbouring slices is the strongest single model")
    if "2d" in dimensions:
        slices = _slices(situation)
        if slices.value > 0 or not chosen:
            chosen["2d"] = Reasoned(slices.value or 1.0, slices.because)
    if situation.low_resolution and "3d" in dimensions:
        chosen |= _coarse(situation)
    # As with a cascade: two trainings one after the other.
    if situation.regions and "3d" in chosen and (situation.by_hand or not situation.short):
        because = "looks again at what the first stage takes for a lesion, and learns from its mistakes"
        chosen["3d_regions"] = Reasoned(4.0, because)
    return chosen


def _slices(situation: Situation) -> Reasoned[float]:
    ratio = f"the coarsest spacing is {situation.anisotropy:.3g} x the finest"
    if situation.anisotropy >= SLICES_WORTHWHILE:
        return Reasoned(2.0, f"{ratio}, so slices hold most of the detail and are seen at full size")
    if situation.short and situation.low_resolution:
        return Reasoned(0.0, f"{ratio}, and a short budget goes to the networks that see context")
    if situation.short:
        return Reasoned(
            1.0, f"{ratio}; a small share buys a different view for the ensemble, for few operations a step"
        )
    return Reasoned(2.0, f"{ratio}; there is time, and a different view makes the ensemble better")


def _coarse(situation: Situation) -> dict[Kind, Reasoned[float]]:
    coarse = Reasoned(4.0, "the full-resolution patch covers less than a quarter of the median image")
    if situation.short:
        # The cascade trains on out-of-fold predictions of its first stage: two trainings one after the other.
        return {"3d_lowres": coarse}
    cascade = Reasoned(4.0, "refines what the low resolution found, at full resolution")
    return {"3d_lowres": coarse, "3d_cascade": cascade}


def shares(weighted: Sequence[tuple[str, float]]) -> tuple[LineupEntry, ...]:
    """Return the line-up with shares that add up to 1 (to the last digit printed).

    Args:
        weighted: Configuration name and weight, in training order.
    """
    total = sum(weight for _, weight in weighted)
    found = [round(weight / total, 4) for _, weight in weighted]
    found[0] = round(1.0 - sum(found[1:]), 4)
    return tuple(LineupEntry(configuration=name, share=share) for (name, _), share in zip(weighted, found, strict=True))
