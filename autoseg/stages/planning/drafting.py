"""One configuration: the fit, and everything around it that follows from data, labels and preset."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels
from autoseg.records.plan import Configuration, Decision, Normalization, Preset, Previous
from autoseg.stages.planning import rules
from autoseg.stages.planning.fitting import Fit, Machine, Wanted, expected, fit
from autoseg.stages.planning.frame import Frame
from autoseg.stages.planning.networks import architecture
from autoseg.stages.planning.reasons import Reasoned, gigabytes, words

LOW_RESOLUTION_BELOW = 0.25
LOW_RESOLUTION_STEP = 1.03
LOW_RESOLUTION_COARSE = 2.0
LOW_RESOLUTION_WORTHWHILE = 2.0


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


def wanted(subject: Subject, spacing_mm: Triple, *, flat: bool, cascade: bool = False) -> Wanted:
    """Return what is to be fitted at a spacing (network axes); in 2D the first axis falls away."""
    frame, preset = subject.frame, subject.preset
    start = 1 if flat else 0
    by_hand = preset.planning.patch_shape
    if by_hand is not None:
        first, second, third = (by_hand[axis] for axis in frame.axis_order.value)
        by_hand = (first, second, third)
    return Wanted(
        spacing_mm=spacing_mm[start:],
        median_shape=frame.shape_at(spacing_mm)[start:],
        dataset_voxels=frame.dataset_voxels(spacing_mm),
        max_stages=preset.network.max_stages,
        planning=preset.planning.model_copy(update={"patch_shape": by_hand}),
        recipe=preset.recipe,
        network=lambda topology: architecture(
            preset.network,
            preset.recipe,
            topology,
            labels=subject.labels,
            channels=frame.channels,
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
    """Return the configuration `kind` ("2d", "3d", "3d_lowres", "3d_cascade") fitted to the machine.

    Args:
        subject: Data set and preset.
        kind: The end of the configuration's name.
        machine: Memory and time.
        spacing_mm: Of a low resolution, network axes; None for full resolution.
        has_low_resolution: Whether the preset plans a low resolution as well.

    Raises:
        ResourceError: Nothing fits.
    """
    frame, flat = subject.frame, kind == "2d"
    spacing = spacing_mm or frame.spacing_mm
    fitted = fit(wanted(subject, spacing.value, flat=flat, cascade=kind == "3d_cascade"), machine)
    kept: Reasoned[float | None] = frame.kept_mm if flat else Reasoned(spacing.value[0], spacing.because)
    target = (kept.value, *spacing.value[1:])
    z, y, x = (math.floor(size + 0.5) for size in frame.shape_at(spacing.value))
    mirror = rules.mirror_axes(subject.labels, frame.axis_order.value, dimensions=2 if flat else 3)
    dice = _batch_dice(subject, kind, has_low_resolution)
    degrees = rules.rotation_degrees(fitted.patch_shape, subject.preset.recipe.augmentation)
    augmentation = subject.preset.recipe.augmentation.model_copy(update={"rotation_degrees": degrees.value})
    configuration = Configuration(
        name=subject.name(kind),
        preset=subject.preset.name,
        axis_order=frame.axis_order.value,
        spacing_mm=target,
        patch_shape=fitted.patch_shape,
        median_shape=(z, y, x),
        batch_size=fitted.batch_size,
        normalizations=frame.normalizations.value,
        mirror_axes=mirror.value,
        batch_dice=dice.value,
        architecture=fitted.architecture,
        recipe=subject.preset.recipe.model_copy(update={"batch_dice": dice.value, "augmentation": augmentation}),
        memory=fitted.memory,
        previous=Previous(configuration=subject.name("3d_lowres")) if kind == "3d_cascade" else None,
        data_key=data_key(frame.axis_order.value, target, frame.normalizations.value),
    )
    reasons: dict[str, Reasoned] = {
        "axis_order": frame.axis_order,
        "spacing_mm": Reasoned(target, kept.because if flat else spacing.because),
        "median_shape": Reasoned((z, y, x), frame.median_shape.because),
        "normalizations": Reasoned(_kinds(configuration.normalizations), frame.normalizations.because),
        "mirror_axes": mirror,
        "batch_dice": dice,
        "recipe.augmentation.rotation_degrees": degrees,
    }
    return Draft(configuration, _decisions(configuration.name, reasons | _of_fit(fitted)))


def _batch_dice(subject: Subject, kind: str, has_low_resolution: bool) -> Reasoned[bool]:
    if subject.preset.recipe.batch_dice is not None:
        return Reasoned(subject.preset.recipe.batch_dice, "the preset says so")
    return rules.batch_dice(
        dimensions=2 if kind == "2d" else 3,
        has_low_resolution=has_low_resolution,
        low_resolution=kind == "3d_lowres",
    )


def _of_fit(fitted: Fit) -> dict[str, Reasoned]:
    arguments, memory = fitted.architecture.arguments, fitted.memory
    halvings = words(fitted.topology.divisor)
    return {
        "patch_shape": Reasoned(fitted.patch_shape, fitted.because_patch),
        "batch_size": Reasoned(fitted.batch_size, fitted.because_batch),
        "architecture.strides": Reasoned(
            words(arguments["strides"]),
            "each axis is halved while its feature map has 8 voxels or more and its spacing is less than twice the"
            f" finest; the patch is a multiple of {halvings}",
        ),
        "architecture.kernels": Reasoned(
            words(arguments["kernels"]), "3 along an axis once its spacing is less than twice the finest, 1 before"
        ),
        "architecture.features": Reasoned(
            words(arguments["features"]), "of the first stage by preset, doubled from stage to stage up to its bound"
        ),
        "memory.peak_bytes": Reasoned(
            gigabytes(memory.peak_bytes),
            f"dry run of one training step of {memory.parameters:,} parameters: {memory.step_flops / 1e9:.3g} GFLOP",
        ),
    }


def _kinds(normalizations: Sequence[Normalization]) -> str:
    return ", ".join(f"{item.channel}: {item.kind}{' (masked)' if item.masked else ''}" for item in normalizations)


def _decisions(name: str, reasons: dict[str, Reasoned]) -> tuple[Decision, ...]:
    return tuple(reason.decision(f"{name}.{field}") for field, reason in reasons.items())


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
    while covered < LOW_RESOLUTION_BELOW:
        spacing = _coarser(spacing)
        voxels = math.prod(frame.shape_at(spacing))
        covered = expected(wanted(subject, spacing, flat=False), machine).voxels / voxels
    seen = f"the full-resolution patch covers {first:.0%} of the median image (limit {LOW_RESOLUTION_BELOW:.0%})"
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
