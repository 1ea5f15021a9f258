"""One configuration: the fit, and everything around it that follows from data, labels and preset."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoseg.records.configuration import Configuration, Normalization, Preparation, Previous, Regions, Sides
from autoseg.records.geometry import Shape, Triple
from autoseg.records.labels import Labels
from autoseg.records.plan import Decision
from autoseg.records.preset import Preset
from autoseg.stages.planning import rules
from autoseg.stages.planning.fitting import expected, fit
from autoseg.stages.planning.frame import Frame
from autoseg.stages.planning.networks import architecture, explained, family, rule_of_shape
from autoseg.stages.planning.reasons import Reasoned, gigabytes, words
from autoseg.stages.planning.regions import Windows, windows
from autoseg.stages.planning.sides import mirror_axes
from autoseg.stages.planning.wanted import FLOOR, Fit, Machine, Wanted

LOW_RESOLUTION_STEP = 1.03
LOW_RESOLUTION_COARSE = 2.0
LOW_RESOLUTION_WORTHWHILE = 2.0
ROTATION = "recipe.augmentation.rotation_degrees"


@dataclass(frozen=True)
class Draft:
    """One configuration and why each of its numbers is so."""

    configuration: Configuration
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Subject:
    """For whom configurations are drafted: the data set in its frame, its labels, and one preset."""

    frame: Frame
    labels: Labels
    preset: Preset

    def name(self, kind: str) -> str:
        """Return the configuration's name."""
        return f"{self.preset.name}_{kind}"


def wanted(
    subject: Subject, spacing_mm: Triple, *, flat: bool, cascade: bool = False, window: Shape | None = None
) -> Wanted:
    """Return what is to be fitted at a spacing (network axes); in 2D the first axis falls away.

    A window (network axes) stands in place of a patch that is searched for.
    """
    frame, preset = subject.frame, subject.preset
    start = 1 if flat else 0
    by_hand = preset.planning.patch_shape
    if by_hand is not None:
        first, second, third = (by_hand[axis] for axis in frame.axis_order.value)
        by_hand = (first, second, third)
    by_hand = window or by_hand
    return Wanted(
        spacing_mm=spacing_mm[start:],
        median_shape=frame.shape_at(spacing_mm)[start:],
        dataset_voxels=frame.dataset_voxels(spacing_mm),
        kind=family(preset.network.kind),
        shape=rule_of_shape(preset.network, spacing_mm[start:]),
        planning=preset.planning.model_copy(update={"patch_shape": by_hand}),
        recipe=preset.recipe,
        network=lambda topology: architecture(
            preset.network,
            preset.recipe,
            topology,
            labels=subject.labels,
            channels=frame.channels * (2 * frame.context_slices.value + 1 if flat else 1),
            cascade=cascade,
        ),
    )


def draft(
    subject: Subject,
    kind: str,
    machine: Machine,
    *,
    spacing_mm: Reasoned[Triple] | None = None,
    has_low_resolution: bool = False,
) -> Draft:
    """Return the configuration `kind` ("2d", "3d", "3d_lowres", "3d_cascade", "3d_regions") fitted to the machine.

    Args:
        subject: Data set and preset.
        kind: The end of the configuration's name.
        machine: Memory and time.
        spacing_mm: Of a low resolution, network axes; None for full resolution.
        has_low_resolution: Whether the preset plans a low resolution as well.

    Raises:
        ResourceError: Nothing fits.
    """
    spacing = spacing_mm or subject.frame.spacing_mm
    around = windows(subject.frame, subject.preset.planning) if kind == "3d_regions" else None
    window = around.shape.value if around else None
    asked = wanted(subject, spacing.value, flat=kind == "2d", cascade=kind == "3d_cascade", window=window)
    fitted = fit(asked, machine)
    if around is not None:
        fitted = replace(fitted, because_patch=around.shape.because)
    chosen = _choices(subject, kind, fitted, spacing=spacing, has_low_resolution=has_low_resolution)
    configuration = _configuration(subject, kind, fitted, chosen)
    told = chosen | _of_fit(fitted) | _of_regions(configuration, around)
    if kind == "2d" and not subject.frame.flat:
        told["context_slices"] = subject.frame.context_slices
    if configuration.sides is not None:
        told["sides"] = Reasoned(configuration.sides.handling, chosen["mirror_axes"].because)
    told["normalizations"] = Reasoned(_kinds(configuration.normalizations), chosen["normalizations"].because)
    decisions = tuple(reason.decision(f"{configuration.name}.{field}") for field, reason in told.items())
    return Draft(configuration, decisions)


def _choices(
    subject: Subject, kind: str, fitted: Fit, *, spacing: Reasoned[Triple], has_low_resolution: bool
) -> dict[str, Reasoned[Any]]:
    """Return what the rules decide, by field of the configuration."""
    frame = subject.frame
    kept = _first_axis(frame, kind, spacing)
    shape = tuple(math.floor(size + 0.5) for size in frame.shape_at(spacing.value))
    return {
        "axis_order": frame.axis_order,
        "spacing_mm": Reasoned((kept.value, *spacing.value[1:]), kept.because),
        "median_shape": Reasoned(shape, frame.median_shape.because),
        "normalizations": frame.normalizations,
        "mirror_axes": _mirror(subject, kind)[0],
        "batch_dice": _batch_dice(subject, kind, has_low_resolution),
        ROTATION: rules.rotation_degrees(fitted.patch_shape, subject.preset.recipe.augmentation),
    }


def _first_axis(frame: Frame, kind: str, spacing: Reasoned[Triple]) -> Reasoned[float | None]:
    """Return the spacing of the first axis: slices keep their own distance."""
    return frame.kept_mm if kind == "2d" else Reasoned(spacing.value[0], spacing.because)


def preparation(frame: Frame, kind: str) -> Preparation:
    """Return what preprocessing needs for the configuration `kind` ("2d", "3d") at full resolution."""
    spacing = (_first_axis(frame, kind, frame.spacing_mm).value, *frame.spacing_mm.value[1:])
    return Preparation(
        axis_order=frame.axis_order.value,
        spacing_mm=spacing,
        normalizations=frame.normalizations.value,
        data_key=data_key(frame.axis_order.value, spacing, frame.normalizations.value),
    )


def _configuration(subject: Subject, kind: str, fitted: Fit, chosen: dict[str, Reasoned[Any]]) -> Configuration:
    recipe = subject.preset.recipe
    augmentation = recipe.augmentation.model_copy(update={"rotation_degrees": chosen[ROTATION].value})
    dice = chosen["batch_dice"].value
    sides = _mirror(subject, kind)[1]
    return Configuration(
        name=subject.name(kind),
        preset=subject.preset.name,
        patch_shape=fitted.patch_shape,
        batch_size=fitted.batch_size,
        architecture=fitted.architecture,
        recipe=recipe.model_copy(update={"batch_dice": dice, "augmentation": augmentation}),
        memory=fitted.memory,
        previous=Previous(configuration=subject.name("3d_lowres")) if kind == "3d_cascade" else None,
        context_slices=subject.frame.context_slices.value if kind == "2d" else 0,
        sides=sides,
        regions=_regions(subject) if kind == "3d_regions" else None,
        data_key=data_key(*(chosen[field].value for field in ("axis_order", "spacing_mm", "normalizations"))),
        **{field: reason.value for field, reason in chosen.items() if field != ROTATION},
    )


def _regions(subject: Subject) -> Regions:
    planning = subject.preset.planning
    return Regions(
        configuration=subject.name("3d"),
        sensitivity=planning.region_sensitivity,
        margin_mm=round(windows(subject.frame, planning).margin_mm.value, 3),
    )


def _of_regions(configuration: Configuration, around: Windows | None) -> dict[str, Reasoned[Any]]:
    regions = configuration.regions
    if regions is None or around is None:
        return {}
    found_later = "of the lesions lie in proposed regions, by a threshold that each fold chooses out of fold"
    return {
        "regions.configuration": Reasoned(regions.configuration, "proposes where this one looks; trained before it"),
        "regions.sensitivity": Reasoned(regions.sensitivity, found_later),
        "regions.margin_mm": Reasoned(regions.margin_mm, around.margin_mm.because),
    }


def _mirror(subject: Subject, kind: str) -> tuple[Reasoned[tuple[int, ...]], Sides | None]:
    return mirror_axes(
        subject.frame.fingerprint,
        subject.frame.axis_order.value,
        dimensions=2 if kind == "2d" else 3,
        wanted=subject.preset.planning.left_right,
    )


def _batch_dice(subject: Subject, kind: str, has_low_resolution: bool) -> Reasoned[bool]:
    if subject.preset.recipe.batch_dice is not None:
        return Reasoned(subject.preset.recipe.batch_dice, "the preset says so")
    if kind == "3d_regions":
        return Reasoned(True, "a window often holds no lesion, a batch of windows seldom does")
    return rules.batch_dice(
        dimensions=2 if kind == "2d" else 3,
        has_low_resolution=has_low_resolution,
        low_resolution=kind == "3d_lowres",
    )


def _of_fit(fitted: Fit) -> dict[str, Reasoned[Any]]:
    memory = fitted.memory
    told: dict[str, Reasoned[Any]] = {
        "patch_shape": Reasoned(fitted.patch_shape, fitted.because_patch),
        "batch_size": Reasoned(fitted.batch_size, fitted.because_batch),
    }
    for argument, because in explained(fitted.architecture, fitted.topology).items():
        told[f"architecture.{argument}"] = Reasoned(words(fitted.architecture.arguments[argument]), because)
    if fitted.because_sparing:
        told["architecture.checkpointing"] = Reasoned(True, fitted.because_sparing)
    told["memory.peak_bytes"] = Reasoned(
        gigabytes(memory.peak_bytes),
        f"dry run of one training step of {memory.parameters:,} parameters: {memory.step_flops / 1e9:.3g} GFLOP;"
        f" a step takes {fitted.curve}",
    )
    return told


def _kinds(normalizations: Sequence[Normalization]) -> str:
    return ", ".join(f"{item.channel}: {item.kind}{' (masked)' if item.masked else ''}" for item in normalizations)


def data_key(
    axis_order: Sequence[int], spacing_mm: Sequence[float | None], normalizations: Sequence[Normalization]
) -> str:
    """Return the short name of one way to preprocess: the first 12 hexadecimal digits of a SHA-256."""
    content = [list(axis_order), list(spacing_mm), [item.model_dump() for item in normalizations]]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def low_resolution(subject: Subject, machine: Machine) -> Reasoned[Triple | None]:
    """Return the spacing (network axes) at which a patch covers a quarter of the median image, or None.

    None where the full-resolution patch covers as much already, or where the image would not become twice smaller.
    The spacing grows by 1.03 at a time, along the fine axes only while the coarse one is more than twice theirs.
    """
    frame = subject.frame
    spacing = frame.spacing_mm.value
    median_voxels = voxels = math.prod(frame.median_shape.value)
    covered = first = expected(wanted(subject, spacing, flat=False), machine).voxels / voxels
    while covered < FLOOR:
        spacing = _coarser(spacing)
        voxels = math.prod(frame.shape_at(spacing))
        # A low resolution is there to need no recomputing.
        covered = expected(wanted(subject, spacing, flat=False), machine, sparing=False).voxels / voxels
    seen = f"the full-resolution patch covers {min(first, 1):.0%} of the median image (limit {FLOOR:.0%})"
    if spacing == frame.spacing_mm.value:
        return Reasoned(None, seen)
    if median_voxels / voxels < LOW_RESOLUTION_WORTHWHILE:
        return Reasoned(None, f"{seen}, but the image would become only {median_voxels / voxels:.2g} x smaller")
    return Reasoned(spacing, f"{seen}; grown by {LOW_RESOLUTION_STEP} at a time until a patch covers {covered:.0%}")


def _coarser(spacing_mm: Triple) -> Triple:
    coarsest = max(spacing_mm)
    fine = [coarsest / value > LOW_RESOLUTION_COARSE for value in spacing_mm]
    z, y, x = (
        value * LOW_RESOLUTION_STEP if grows or not any(fine) else value
        for value, grows in zip(spacing_mm, fine, strict=True)
    )
    return (z, y, x)
