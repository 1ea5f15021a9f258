"""Whether small lesions get a second stage of their own, which works on the regions that the first proposes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from autoseg.records.fingerprint import PieceFacts
from autoseg.records.geometry import Shape, Triple
from autoseg.records.preset import PlanningPreset
from autoseg.stages.planning.frame import Frame
from autoseg.stages.planning.reasons import Reasoned, words

# Sparse: a network that draws its windows at random sees next to nothing of the lesions.
MOST_IMAGE_FRACTION = 0.005
# Many: the typical case holds more than one.
LEAST_PER_CASE = 2.0
# Small: their window is at most this share of the first stage's patch, else that one is a window already.
MOST_PATCH_FRACTION = 0.5
# Fewer patients show too few mistakes of the first stage to learn from, and too few lesions to choose a threshold by.
LEAST_PATIENTS = 10
# Around a lesion its surroundings tell it from a vessel: twice its size, and not below that of published second stages
# (48 to 64 mm for metastases).
WINDOW_MM = 48.0
MARGIN_MM = 5.0


@dataclass(frozen=True)
class Windows:
    """The windows of a second stage.

    Attributes:
        shape: Voxels, network axes, before padding to what the network divides.
        margin_mm: By which a proposal's box is grown.
    """

    shape: Reasoned[Shape]
    margin_mm: Reasoned[float]


def wanted(frame: Frame, planning: PlanningPreset, patch_voxels: Callable[[], float]) -> Reasoned[bool]:
    """Return whether a second stage on regions is planned, and why or why not.

    Args:
        frame: Of the data.
        planning: Of the preset.
        patch_voxels: Of the first stage's patch; asked for only where it decides.
    """
    if planning.regions is not None:
        return Reasoned(planning.regions, "set by hand")
    pieces = frame.fingerprint.pieces
    if pieces is None:
        return Reasoned(False, "the structures are no small, sparse pieces")
    if pieces.per_case[1] < LEAST_PER_CASE or pieces.image_fraction > MOST_IMAGE_FRACTION:
        return Reasoned(False, f"{_seen(pieces)}: too few or too much of it (limit {MOST_IMAGE_FRACTION:.1%})")
    if frame.fingerprint.groups < LEAST_PATIENTS:
        patients = frame.fingerprint.groups
        return Reasoned(False, f"{_seen(pieces)}, but {patients} patients are too few (limit {LEAST_PATIENTS})")
    share = math.prod(windows(frame, planning).shape.value) / patch_voxels()
    if share > MOST_PATCH_FRACTION:
        because = f"{_seen(pieces)}: a window around one is {share:.0%} of the patch (limit {MOST_PATCH_FRACTION:.0%})"
        return Reasoned(False, because)
    because = f"{_seen(pieces)}: a second stage learns to tell them from what the first takes for one"
    return Reasoned(True, f"{because}, on windows of {share:.0%} of the patch")


def windows(frame: Frame, planning: PlanningPreset) -> Windows:
    """Return the windows of a second stage, at full resolution."""
    pieces = frame.fingerprint.pieces
    largest = pieces.longest_mm[2] if pieces is not None else 0.0
    side = max(WINDOW_MM, 2 * largest)
    margin = max(MARGIN_MM, largest / 2)
    told = f"95 % of the pieces are below {largest:.3g} mm" if pieces is not None else "no pieces were counted"
    shape = Reasoned(_voxels(frame, side), f"{side:.3g} mm along each axis, {WINDOW_MM:g} mm or twice a lesion: {told}")
    if planning.region_shape is not None:
        first, second, third = (planning.region_shape[axis] for axis in frame.axis_order.value)
        shape = Reasoned((first, second, third), "set by hand")
    return Windows(shape, Reasoned(margin, f"{MARGIN_MM:g} mm or half a lesion: {told}"))


def _voxels(frame: Frame, side_mm: float) -> Shape:
    spacing: Triple = frame.spacing_mm.value
    z, y, x = (
        max(1, min(math.ceil(side_mm / mm), math.floor(size + 0.5)))
        for mm, size in zip(spacing, frame.median_shape.value, strict=True)
    )
    return (z, y, x)


def _seen(pieces: PieceFacts) -> str:
    return (
        f"the typical case holds {words(pieces.per_case[1])} pieces of {words(pieces.longest_mm[1])} mm, together"
        f" {100 * pieces.image_fraction:.2g} % of the image"
    )
