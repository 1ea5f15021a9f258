"""Small hand-made records: two structures, a U-Net of two stages, cases of random noise with a bright cube."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.records.configuration import Architecture, Configuration, MemoryEstimate, Normalization, Previous
from autoseg.records.dataset import Channel
from autoseg.records.geometry import Box, Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.machine import DeviceProfile
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.preset import Recipe
from autoseg.records.volumes import Passage, PreprocessedCase
from autoseg.stages import training
from autoseg.stages.training import Terms, TrainingSet
from autoseg.stages.training.request import Request

LABELS = Labels(
    structures=(Structure(name="front", value=1, original=1), Structure(name="back", value=2, original=2)),
)
RECIPE = Recipe(precision="float32", epochs=2, steps_per_epoch=6)
MODEL = ModelId(dataset="toy", plan="default", configuration="tiny", seed=3, fold="0")


def make_configuration(*, dimensions: int = 3, recipe: Recipe = RECIPE, cascade: bool = False) -> Configuration:
    patch = (8, 16, 16) if dimensions == 3 else (1, 16, 16)
    kernel, stride = ([3, 3, 3], [1, 2, 2]) if dimensions == 3 else ([3, 3], [2, 2])
    architecture = Architecture(
        kind="unet",
        dimensions=3 if dimensions == 3 else 2,
        input_channels=3 if cascade else 1,
        output_channels=3,
        deep_supervision=recipe.deep_supervision,
        arguments={
            "features": [4, 8],
            "strides": [[1] * dimensions, stride],
            "kernels": [kernel, kernel],
            "blocks": [1, 1],
            "decoder_blocks": [1],
        },
    )
    return Configuration(
        name="tiny",
        preset="tiny",
        axis_order=(0, 1, 2),
        spacing_mm=(1.0, 1.0, 1.0),
        patch_shape=patch,
        median_shape=(10, 20, 20),
        batch_size=2,
        normalizations=(Normalization(channel="mr", kind="zscore"),),
        mirror_axes=(0, 1, 2) if dimensions == 3 else (1, 2),
        batch_dice=False,
        architecture=architecture,
        recipe=recipe,
        memory=MemoryEstimate(peak_bytes=1, parameters=1, step_flops=1.0),
        previous=Previous(configuration="low") if cascade else None,
        data_key="toy",
    )


def make_plan(configuration: Configuration | None = None) -> Plan:
    return Plan(
        name="default",
        dataset="toy",
        presets=("tiny",),
        device=DeviceProfile(kind="cpu", name="test", memory_gb=8, fast_bfloat16=False),
        channels=(Channel(name="mr", kind="mr"),),
        labels=LABELS,
        corrections=(),
        configurations=(configuration or make_configuration(),),
        lineup=(),
        decisions=(),
        fingerprint_digest="0",
        version="0",
    )


def make_case(id: str, *, shape: tuple[int, int, int] = (10, 20, 20), **changes: Any) -> PreprocessedCase:
    """Noise, with structure 1 in a bright cube near the origin and structure 2 behind it."""
    rng = np.random.default_rng(sum(id.encode()))
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 4:9, 4:9] = 1
    labels[5:8, 10:15, 10:15] = 2
    image = rng.normal(0, 0.3, (1, *shape)).astype(np.float32) + labels
    grid = Grid(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    positions = {value: np.argwhere(labels == value).astype(np.int32) for value in (1, 2)}
    content: dict[str, Any] = {
        "id": id,
        "image": image,
        "labels": labels,
        "previous": None,
        "passage": Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=shape), network=grid),
        "positions": positions,
        "annotated": (1, 2),
    }
    return PreprocessedCase(**{**content, **changes})


def make_cases() -> list[PreprocessedCase]:
    return [make_case("one"), make_case("two", shape=(9, 18, 22)), make_case("three", shape=(12, 16, 16))]


def fit(plan: Plan, model: ModelId, folder: Path, cases: Sequence[PreprocessedCase], **more: Any) -> Path:
    """Train on cases; `more` are fields of `TrainingSet` (`cases_digest` is its digest) and `Terms`, mixed."""
    if "cases_digest" in more:
        more["digest"] = more.pop("cases_digest")
    data = {field.name: more.pop(field.name) for field in fields(TrainingSet) if field.name in more}
    on_progress = more.pop("on_progress", None)
    return training.fit(plan, model, folder, TrainingSet(cases, **data), terms=Terms(**more), on_progress=on_progress)


def make_request(configuration: Configuration, **changes: Any) -> Request:
    content: dict[str, Any] = {
        "plan_digest": "p",
        "model": MODEL,
        "labels": LABELS,
        "configuration": configuration,
        "settings": {},
        "cases": make_cases(),
        "cases_digest": "",
        "budget_seconds": None,
        "device": "cpu",
        "began": time.perf_counter(),
    }
    return Request(**{**content, **changes})
