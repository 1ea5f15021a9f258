"""The rules that follow from the data alone: spacing, axis order, normalisation, mirroring, low resolution.

Every function returns its value with the reason for it (`Reasoned`). The rules are those of nnU-Net (Isensee et al.
2021, doi:10.1038/s41592-020-01008-z) unless the docstring says otherwise. "Canonical" axes are those of an image in
LPS orientation, (z, y, x); "network" axes come after `axis_order`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.records.dataset import Channel
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels
from autoseg.records.plan import Augmentation, Normalization
from autoseg.stages.planning.reasons import Reasoned, listed, words

ANISOTROPIC = 3.0
COARSE_PERCENTILE = 10
EQUAL = 1e-3  # spacings closer than this (relative) are the same: scanners round differently
MASKED_BELOW = 0.75
LEFT_RIGHT_AXIS = 2  # images are brought to LPS first, so x runs from right to left
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
    because = f"the median over {len(spacings)} cases"
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


def normalizations(fingerprint: Fingerprint) -> Reasoned[tuple[Normalization, ...]]:
    """Return how each channel becomes network input.

    CT, and PET whose uptake values mean the same in every case, keep their scale: clipped to the foreground's 0.5th
    and 99.5th percentile, pooled mean and standard deviation. Colours are divided by 255. Others: z-score per case,
    inside the non-zero voxels where cropping to them kept less than 0.75 of the median image.
    """
    kept = float(np.median([case.crop_fraction for case in fingerprint.cases]))
    measured = {item.channel: item for item in fingerprint.intensities}
    chosen, reasons = [], []
    for channel in fingerprint.channels:
        kind = _normalization_kind(channel)
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
                f"{channel.name} is {channel.kind.upper()}, whose values mean the same in every case: clipped to the"
                f" foreground's {found.p00_5:.4g} to {found.p99_5:.4g}"
            )
        elif kind == "rgb":
            chosen.append(Normalization(channel=channel.name, kind="rgb"))
            reasons.append(f"{channel.name} is a colour of 0 to 255")
        else:
            chosen.append(Normalization(channel=channel.name, kind="zscore", masked=kept < MASKED_BELOW))
            where = "inside the non-zero voxels" if kept < MASKED_BELOW else "over the whole image"
            reasons.append(
                f"{channel.name} ({channel.kind}) has no scale of its own: z-score per case {where}, because cropping"
                f" keeps {kept:.2f} of the median image (limit {MASKED_BELOW})"
            )
    return Reasoned(tuple(chosen), "; ".join(reasons))


def _normalization_kind(channel: Channel) -> str:
    return {"ct": "ct", "pet": "ct", "rgb": "rgb"}.get(channel.kind, "zscore")


def mirror_axes(labels: Labels, order: Sequence[int], *, dimensions: int) -> Reasoned[tuple[int, ...]]:
    """Return the patch axes (0 z, 1 y, 2 x) that training and prediction flip: all, but not left for right.

    Source:
        nnU-Net issues 869, 219, 1834 and others: mirroring swaps paired structures.
    """
    axes = (1, 2) if dimensions == 2 else (0, 1, 2)
    if not labels.mirror_pairs:
        return Reasoned(axes, "no structure has a left and a right twin")
    names = {item.value: item.name for item in labels.structures}
    pairs = listed(f"{names[a]}/{names[b]}" for a, b in labels.mirror_pairs[:3])
    more = f" and {len(labels.mirror_pairs) - 3} more pairs" if len(labels.mirror_pairs) > 3 else ""
    kept = tuple(axis for axis in axes if order[axis] != LEFT_RIGHT_AXIS)
    return Reasoned(kept, f"{pairs}{more} are left and right of one another: a flip from left to right would swap them")


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
