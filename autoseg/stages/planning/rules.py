"""The rules that follow from the data alone: spacing, axis order, normalisation, mirroring, low resolution.

Every function returns its value with the reason for it (`Reasoned`). The rules are those of nnU-Net (Isensee et al.
2021, doi:10.1038/s41592-020-01008-z) unless the docstring says otherwise. "Canonical" axes are those of an image in
LPS orientation, (z, y, x); "network" axes come after `axis_order`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.records.configuration import Normalization
from autoseg.records.dataset import Channel
from autoseg.records.errors import UsageError
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.preset import Augmentation, NormalizationKind, PlanningPreset
from autoseg.stages.planning.reasons import Reasoned, words

ANISOTROPIC = 3.0
COARSE_PERCENTILE = 10
EQUAL = 1e-3  # spacings closer than this (relative) are the same: scanners round differently
MASKED_BELOW = 0.75
CONTEXT_ANISOTROPY = (2.0, 6.0)
FREE_ROTATION, LIMITED_ROTATION = 180.0, 15.0


def target_spacing(fingerprint: Fingerprint) -> Reasoned[Triple]:
    """Return the spacing, canonical (z, y, x) in mm, that every case is resampled to.

    The median of each axis; where one axis is more than 3 times coarser and 3 times shorter than the others, the
    10th percentile of that axis, but nothing finer than the others.
    """
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    shapes = np.array([case.shape for case in fingerprint.cases])
    target, size = np.median(spacings, 0), np.median(shapes, 0)
    coarse = coarsest_axis(target, size)
    others = [axis for axis in range(3) if axis != coarse]
    because = f"the median over {len(spacings)} cases{_spread(spacings)}"
    strongly_coarse = target[coarse] > ANISOTROPIC * target[others].max()
    if strongly_coarse and size[coarse] * ANISOTROPIC < size[others].min() and size[coarse] > 1:
        percentile = float(np.percentile(spacings[:, coarse], COARSE_PERCENTILE))
        because += (
            f", except on axis {'zyx'[coarse]}, whose median of {target[coarse]:.4g} mm is more than {ANISOTROPIC:g} x"
            f" the others': there the {COARSE_PERCENTILE}th percentile of {percentile:.4g} mm keeps the detail of the"
            " finer cases"
        )
        target[coarse] = max(percentile, target[others].max())
    z, y, x = (float(value) for value in target)
    return Reasoned((z, y, x), because)


def _spread(spacings: np.ndarray) -> str:
    """Return how the cases' spacings are distributed, in words: per axis from where to where, and the middle half."""
    least, low, high, most = np.percentile(spacings, (0, 25, 75, 100), axis=0)
    if np.all(most - least <= EQUAL * least):
        return ", which all have it"
    told = [
        f"{'zyx'[axis]} {least[axis]:.4g} to {most[axis]:.4g} mm, the middle half {low[axis]:.4g} to {high[axis]:.4g}"
        if most[axis] - least[axis] > EQUAL * least[axis]
        else f"{'zyx'[axis]} {least[axis]:.4g} mm"
        for axis in range(3)
    ]
    return f" ({'; '.join(told)})"


def coarsest_axis(spacing_mm: Sequence[float], shape: Sequence[float]) -> int:
    """Return the canonical axis of largest spacing, the first among equals; of a 2D image the axis with one voxel."""
    if min(shape) == 1:
        return int(np.argmin(shape))
    largest = max(spacing_mm)
    return next(axis for axis in range(3) if spacing_mm[axis] >= largest * (1 - EQUAL))


def axis_order(spacing_mm: Triple, shape: Sequence[float]) -> Reasoned[tuple[int, int, int]]:
    """Return which canonical axis becomes the network's first, second and third: the coarsest first."""
    coarse = coarsest_axis(spacing_mm, shape)
    first, second, third = (coarse, *(axis for axis in range(3) if axis != coarse))
    why = "has one voxel" if min(shape) == 1 else f"has the largest spacing, {spacing_mm[coarse]:.4g} mm"
    if max(spacing_mm) - min(spacing_mm) <= EQUAL * max(spacing_mm):
        why = f"is the first of three with equal spacing, {spacing_mm[coarse]:.4g} mm"
    return Reasoned((first, second, third), f"axis {'zyx'[coarse]} {why}, and slices of a 2D network are cut across it")


def median_shape(fingerprint: Fingerprint, spacing_mm: Triple, order: Sequence[int]) -> Reasoned[Triple]:
    """Return the median shape, network axes, of all cases resampled to a canonical spacing."""
    resampled = [
        [max(1, round(n * mm / target)) for n, mm, target in zip(case.shape, case.spacing_mm, spacing_mm, strict=True)]
        for case in fingerprint.cases
    ]
    z, y, x = (float(value) for value in np.median(resampled, 0)[list(order)])
    return Reasoned((z, y, x), f"the median of {len(resampled)} cropped cases at the target spacing")


def kept_axis_spacing(fingerprint: Fingerprint, target_mm: float, axis: int) -> Reasoned[float | None]:
    """Return the spacing of the axis that a 2D network does not see: a number where all cases agree, else None.

    With the number, a 2D and a 3D configuration share their preprocessed cases.
    """
    found = [case.spacing_mm[axis] for case in fingerprint.cases]
    if max(found) - min(found) <= EQUAL * target_mm:
        return Reasoned(target_mm, f"every case has {target_mm:.4g} mm along the axis that slices are cut across")
    because = f"slices stay as they are: along their axis the cases differ ({min(found):.4g} to {max(found):.4g} mm)"
    return Reasoned(None, because)


def normalizations(
    fingerprint: Fingerprint, by_hand: Mapping[str, NormalizationKind] | None = None
) -> Reasoned[tuple[Normalization, ...]]:
    """Return how each channel becomes network input.

    CT, and PET whose uptake values mean the same in every case, keep their scale: clipped to the foreground's 0.5th
    and 99.5th percentile, pooled mean and standard deviation. Colours are divided by 255. Others: z-score per case,
    inside the non-zero voxels where cropping to them kept less than 0.75 of the median image.

    Args:
        fingerprint: Of the data set.
        by_hand: Channel -> kind, in place of the rule.

    Raises:
        UsageError: `by_hand` names a channel that there is not.
    """
    given = by_hand or {}
    _check_channels(fingerprint, given)
    kept = float(np.median([case.crop_fraction for case in fingerprint.cases]))
    measured = {item.channel: item for item in fingerprint.intensities}
    chosen, reasons = [], []
    for channel in fingerprint.channels:
        kind = given.get(channel.name) or _normalization_kind(channel)
        if kind == "ct":
            found = measured[channel.name]
            chosen.append(
                Normalization(
                    channel=channel.name,
                    kind="ct",
                    lower=found.p00_5,
                    upper=found.p99_5,
                    mean=found.mean,
                    std=max(found.std, 1e-8),
                )
            )
            reasons.append(
                f"{channel.name} set by hand"
                if channel.name in given
                else f"{channel.name} is {channel.kind.upper()}, whose values mean the same in every case: clipped to"
                f" the foreground's {found.p00_5:.4g} to {found.p99_5:.4g}"
            )
        elif kind != "zscore":
            chosen.append(Normalization(channel=channel.name, kind=kind))
            reasons.append(f"{channel.name} " + ("set by hand" if channel.name in given else "is a colour of 0 to 255"))
        else:
            chosen.append(Normalization(channel=channel.name, kind="zscore", masked=kept < MASKED_BELOW))
            where = "inside the non-zero voxels" if kept < MASKED_BELOW else "over the whole image"
            reasons.append(
                f"{channel.name} set by hand, {where}"
                if channel.name in given
                else f"{channel.name} ({channel.kind}) has no scale of its own: z-score per case {where}, because"
                f" cropping keeps {kept:.2f} of the median image (limit {MASKED_BELOW})"
            )
    return Reasoned(tuple(chosen), "; ".join(reasons))


def _normalization_kind(channel: Channel) -> NormalizationKind:
    kinds: dict[str, NormalizationKind] = {"ct": "ct", "pet": "ct", "rgb": "rgb"}
    return kinds.get(channel.kind, "zscore")


def _check_channels(fingerprint: Fingerprint, given: Mapping[str, NormalizationKind]) -> None:
    there = [channel.name for channel in fingerprint.channels]
    for name in given:
        if name not in there:
            raise UsageError(
                f"planning.normalizations names channel {name!r}, which {fingerprint.dataset} does not have",
                fix=f"It has: {', '.join(there)}.",
                code="unknown_channel",
            )


def context_slices(planning: PlanningPreset, *, slices: float, anisotropy: float, third_mm: float) -> Reasoned[int]:
    """Return how many slices on each side a 2D network sees beside its own.

    One where slices are 2 to 6 times as thick as their pixels: then a 2D network is worth its time, and the next slice
    still shows the same structures. Thinner ones are the 3D network's ground; behind thicker ones lies something else.

    Args:
        planning: A number by hand wins; in conformance mode there are none.
        slices: Of the median image.
        anisotropy: Largest over smallest spacing.
        third_mm: Distance of two slices.
    """
    if slices < 2:
        return Reasoned(0, "the data are 2D: a slice has no neighbours")
    if planning.context_slices is not None:
        return Reasoned(planning.context_slices, "set by hand in the preset")
    low, high = CONTEXT_ANISOTROPY
    ratio = f"slices lie {third_mm:.3g} mm apart, {anisotropy:.3g} x the finest spacing"
    if planning.conformance is not None or not low <= anisotropy <= high:
        return Reasoned(0, f"{ratio}; neighbours are shown between {low:g} and {high:g} x")
    return Reasoned(
        1, f"{ratio}: the slice before and the one behind show the same structures, for a wider first layer"
    )


def batch_dice(*, dimensions: int, has_low_resolution: bool, low_resolution: bool = False) -> Reasoned[bool]:
    """Return whether Dice is computed over the batch at once rather than per sample."""
    if dimensions == 2:
        return Reasoned(True, "a slice often lacks a structure, a batch of slices seldom does")
    if has_low_resolution and not low_resolution:
        return Reasoned(True, "the patch is a small part of the image and often lacks a structure")
    return Reasoned(False, "the patch covers most of what an image shows, so each sample counts by itself")


def rotation_degrees(patch_shape: Sequence[int], preset: Augmentation) -> Reasoned[float]:
    """Return the largest angle of random rotation; an angle that a preset names itself stays.

    Args:
        patch_shape: (z, y, x), z = 1 in 2D.
        preset: The preset's augmentation.
    """
    if preset.rotation_degrees != Augmentation().rotation_degrees:
        return Reasoned(preset.rotation_degrees, "the preset says so")
    shape = words(tuple(patch_shape))
    if patch_shape[0] > 1:
        if max(patch_shape) / patch_shape[0] > ANISOTROPIC:
            return Reasoned(FREE_ROTATION, f"the patch {shape} is flat (more than 3:1), so it turns in its plane only")
        return Reasoned(preset.rotation_degrees, f"the patch {shape} turns about every axis")
    if max(patch_shape[1:]) / min(patch_shape[1:]) > 1.5:
        return Reasoned(LIMITED_ROTATION, f"the patch {shape} is longer than 1.5:1 and would turn out of the image")
    return Reasoned(FREE_ROTATION, f"the patch {shape} is nearly square")
