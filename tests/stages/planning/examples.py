"""Small fingerprints, devices and an analytic cost, for tests of planning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.records.configuration import Architecture
from autoseg.records.dataset import Channel
from autoseg.records.fingerprint import CaseFacts, Fingerprint, Intensity
from autoseg.records.labels import Labels, Structure
from autoseg.records.machine import DeviceProfile
from autoseg.records.preset import NetworkPreset, PlanningPreset, Preset, Recipe, ShortBudget


@dataclass(frozen=True)
class Step:
    """What a dry run returns."""

    peak_bytes: int
    parameters: int
    flops: float


def linear_cost(
    architecture: Architecture,
    recipe: Recipe,
    patch_shape: Sequence[int],
    batch_size: int,
    *,
    precision: str,
    device_kind: str,
) -> Step:
    """A step of a plain U-Net, nearly: 300 MiB and 1.2 KB a voxel at 32 features."""
    voxels = math.prod(patch_shape) * batch_size
    width = architecture.arguments["features"][0] / 32
    double = 1 if precision == "bfloat16" else 2
    return Step(int(300 * 2**20 + double * 1200 * width * voxels), 10**6, 1.4e6 * width**2 * voxels)


def labels(count: int = 2, **more) -> Labels:
    structures = tuple(Structure(name=f"s{value}", value=value, original=value) for value in range(1, count + 1))
    return Labels(structures=structures, **more)


def fingerprint(
    cases: int = 10,
    shape: tuple[int, int, int] = (36, 50, 35),
    spacing_mm: tuple[float, float, float] = (1, 1, 1),
    *,
    kind: str = "mr",
    of: Labels | None = None,
    crop_fraction: float = 1.0,
    facts: Sequence[tuple[tuple[int, int, int], tuple[float, float, float]]] = (),
) -> Fingerprint:
    """`cases` equal cases, or one a pair (shape, spacing) in `facts`."""
    of = of or labels()
    found = list(facts) or [(shape, spacing_mm)] * cases
    return Fingerprint(
        dataset="example",
        dataset_digest="0" * 16,
        channels=(Channel(name="image", kind=kind),),
        labels=of,
        groups=len(found),
        cases=tuple(
            CaseFacts(id=f"c{i}", shape=s, spacing_mm=mm, crop_fraction=crop_fraction, voxels=(9,) * len(of.structures))
            for i, (s, mm) in enumerate(found)
        ),
        intensities=(
            Intensity(
                channel="image", mean=40.0, median=38.0, std=20.0, minimum=-9.0, maximum=99.0, p00_5=-5.0, p99_5=90.0
            ),
        ),
        structures=(),
    )


def hippocampus_like(cases: int = 260) -> Fingerprint:
    return fingerprint(cases, (36, 50, 35), (1, 1, 1))


def hanseg_like() -> Fingerprint:
    return fingerprint(42, (180, 300, 300), (2, 0.98, 0.98), kind="ct", of=labels(30))


def preset(name: str = "unet", **planning) -> Preset:
    return Preset(
        name=name,
        about="An example.",
        network=NetworkPreset(kind="unet"),
        planning=PlanningPreset(**planning),
        short=ShortBudget(features=16, min_steps=1000, recipe=Recipe(optimizer="adamw", learning_rate=2e-3)),
    )


def device(memory_gb: float = 8, *, kind: str = "cuda", flops_per_second: float = 0.0) -> DeviceProfile:
    return DeviceProfile(
        kind=kind, name="example", memory_gb=memory_gb, fast_bfloat16=True, flops_per_second=flops_per_second
    )
