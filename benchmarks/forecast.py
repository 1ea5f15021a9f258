"""Predicted seconds of a training step beside real ones, for several networks and sizes on this device.

    python -m autoseg calibrate -o calibration.json
    python benchmarks/forecast.py --calibration calibration.json --preset unet --patch 40 56 40 --batch 2

`before` is the forecast over what training took in its first 120 steps (or `--seconds`), after its own choice of
precision and memory format; `after` is the mean of the first 20 steps over the steps behind them. 1 is a perfect
forecast. Images are noise: how fast a step is does not depend on what they show. Nothing else may compute meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import count
from pathlib import Path

import numpy as np
import torch

from autoseg.compute import devices
from autoseg.networks.calibrating import precisions
from autoseg.networks.work import measure_work
from autoseg.records.calibration import Calibration
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.records.labels import Labels
from autoseg.records.plan import Configuration, Plan
from autoseg.records.results import ModelId
from autoseg.records.volumes import Passage, PreprocessedCase
from autoseg.stages import planning
from autoseg.stages.planning.timing import step_seconds
from autoseg.stages.training import feeding, learner, resolve
from autoseg.stages.training.request import Request
from autoseg.workspace import plans_folder, read_record

STEPS_BEFORE, STEPS_AT_MOST = 20, 120


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--calibration", type=Path, required=True)
    words.add_argument("--preset", default="unet")
    words.add_argument("--dataset", default="hippocampus", help="A fingerprint of plans/reference.")
    words.add_argument("--patch", type=int, nargs=3)
    words.add_argument("--batch", type=int, default=2)
    words.add_argument("--kind", default="3d")
    words.add_argument("--seconds", type=float, default=30.0)
    given = words.parse_args()
    calibration = read_record(given.calibration, Calibration)
    device = devices.find(calibration.device.kind)
    devices.set_threads(device.threads)
    plan = made(given, device.model_copy(update={"memory_gb": 8.0}))
    configuration = plan.configuration(f"{given.preset}_{given.kind}")
    works = [
        measure_work(
            configuration.architecture,
            configuration.recipe,
            configuration.patch_shape,
            configuration.batch_size,
            precision=precision,
            device_kind=device.kind,
        )
        for precision in precisions(device)
    ]
    predicted = step_seconds(configuration, works, calibration)
    row = {"configuration": configuration.name, "patch": configuration.patch_shape, "batch": configuration.batch_size}
    print(json.dumps(row | compared(plan, configuration, predicted, given.seconds)))


def made(given: argparse.Namespace, device: object) -> Plan:
    """Return the plan with the patch and batch that were asked for."""
    fingerprint = read_record(plans_folder() / "reference" / given.dataset / "fingerprint.json", Fingerprint)
    preset = planning.load_preset(given.preset)
    update = {"batch_size": given.batch, "patch_shape": tuple(given.patch) if given.patch else None}
    preset = preset.model_copy(update={"planning": preset.planning.model_copy(update=update)})
    return planning.make_plan(fingerprint, [preset], device)  # type: ignore[arg-type]


def compared(plan: Plan, configuration: Configuration, predicted: float, limit: float) -> dict[str, object]:
    """Return predicted and real seconds of a step, and their ratios."""
    model = ModelId(dataset="bench", plan="default", configuration=configuration.name, fold="0")
    cases = tuple(noise(f"{number}", configuration, plan.labels) for number in range(4))
    request = Request(
        plan_digest="",
        model=model,
        labels=plan.labels,
        configuration=configuration,
        settings={},
        cases=list(cases),
        cases_digest="",
        budget_seconds=None,
        device=plan.device.kind,
        began=time.perf_counter(),
    )
    record = resolve.resolve(request)
    pupil = learner.build(request, precision=record.precision, memory_format=record.memory_format)
    times, begun = [time.perf_counter()], time.perf_counter()
    rules = resolve.sampling_rules(request, record.batch_size)
    for number, (batch, _) in enumerate(feeding.batches(rules, request.cases, count(), device=request.device)):
        learner.advance(pupil, batch, number=number, rate=1e-4).item()
        times.append(time.perf_counter())
        if len(times) > STEPS_AT_MOST or (time.perf_counter() - begun > limit and len(times) > STEPS_BEFORE + 10):
            break
    steps = np.diff(times)[1:]
    real, first, rest = steps.mean(), steps[:STEPS_BEFORE].mean(), steps[STEPS_BEFORE:].mean()
    return {
        "precision": record.precision,
        "memory_format": record.memory_format,
        "predicted_s": round(predicted, 4),
        "resolved_s": round(record.step_seconds, 4),
        "real_s": round(float(real), 4),
        "before": round(float(predicted / real), 3),
        "after": round(float(first / rest), 3),
        "steps": len(steps),
        "torch": torch.__version__,
    }


def noise(id: str, configuration: Configuration, labels: Labels) -> PreprocessedCase:
    """Return a case of noise a fifth larger than the patch, with some voxels of every structure."""
    rng = np.random.default_rng(int(id))
    z, y, x = (size if size == 1 else round(1.2 * size) for size in configuration.patch_shape)
    shape: Shape = (z, y, x)
    grid = Grid(shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    drawn = rng.integers(0, len(labels.structures) + 1, [-(-size // 8) for size in shape])
    array = np.kron(drawn, np.ones((8, 8, 8)))[:z, :y, :x].astype(np.uint8)
    return PreprocessedCase(
        id=id,
        image=rng.normal(size=(configuration.architecture.input_channels, *shape)).astype(np.float32),
        labels=array,
        previous=None,
        passage=Passage(original=grid, oriented=grid, crop=Box(start=(0, 0, 0), stop=shape), network=grid),
        positions={value: np.argwhere(array == value).astype(np.int32)[:500] for value in range(1, 3)},
        annotated=(),
    )


if __name__ == "__main__":
    main()
