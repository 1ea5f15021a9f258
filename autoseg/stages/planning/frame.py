"""What every configuration of a plan has in common: spacing, axes, median shape, normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoseg.records.configuration import Normalization
from autoseg.records.errors import DataError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.preset import PlanningPreset
from autoseg.stages.planning import rules
from autoseg.stages.planning.reasons import Reasoned


@dataclass(frozen=True)
class Frame:
    """The data set as the rules see it, network axes except `axis_order`.

    Attributes:
        spacing_mm: Target, full resolution.
        axis_order: Which canonical axis becomes the first, second, third.
        median_shape: At the target spacing; halves occur.
        context_slices: That a 2D network sees on each side.
        fingerprint: What all this follows from.
        kept_mm: Spacing of the first axis in 2D: a number where all cases agree, else None.
    """

    cases: int
    channels: int
    spacing_mm: Reasoned[Triple]
    axis_order: Reasoned[tuple[int, int, int]]
    median_shape: Reasoned[Triple]
    kept_mm: Reasoned[float | None]
    normalizations: Reasoned[tuple[Normalization, ...]]
    context_slices: Reasoned[int]
    fingerprint: Fingerprint

    @property
    def flat(self) -> bool:
        """Whether the data are 2D."""
        return self.median_shape.value[0] == 1

    @property
    def anisotropy(self) -> float:
        """Largest over smallest target spacing."""
        return max(self.spacing_mm.value) / min(self.spacing_mm.value)

    def dataset_voxels(self, spacing_mm: Triple) -> float:
        """Return the voxels of all cases at a spacing (network axes)."""
        return self.cases * math.prod(self.shape_at(spacing_mm))

    def shape_at(self, spacing_mm: Triple) -> Triple:
        """Return the median shape at another spacing, not rounded."""
        full = zip(self.median_shape.value, self.spacing_mm.value, spacing_mm, strict=True)
        z, y, x = (n * mine / other for n, mine, other in full)
        return (z, y, x)


def survey(fingerprint: Fingerprint, planning: PlanningPreset) -> Frame:
    """Return what follows from the data alone.

    Args:
        fingerprint: Of the training cases.
        planning: A spacing by hand, canonical (z, y, x), replaces the rule.

    Raises:
        DataError: The fingerprint holds no case.
    """
    if not fingerprint.cases:
        raise DataError(f"the fingerprint of {fingerprint.dataset} holds no case", fix="Import cases with labels.")
    canonical = rules.target_spacing(fingerprint)
    if planning.spacing_mm is not None:
        canonical = Reasoned(planning.spacing_mm, "set by hand in the preset")
    plain = rules.median_shape(fingerprint, canonical.value, (0, 1, 2))
    order = rules.axis_order(canonical.value, plain.value)
    first, second, third = order.value
    spacing = (canonical.value[first], canonical.value[second], canonical.value[third])
    shape = rules.median_shape(fingerprint, canonical.value, order.value)
    return Frame(
        cases=len(fingerprint.cases),
        channels=len(fingerprint.channels),
        spacing_mm=Reasoned(spacing, canonical.because),
        axis_order=order,
        median_shape=shape,
        context_slices=rules.context_slices(
            planning,
            slices=shape.value[0],
            anisotropy=max(spacing) / min(spacing),
            third_mm=spacing[0],
        ),
        fingerprint=fingerprint,
        kept_mm=rules.kept_axis_spacing(fingerprint, spacing[0], first),
        normalizations=rules.normalizations(fingerprint, planning.normalizations),
    )
