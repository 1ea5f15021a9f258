"""Predicted seconds of a training step beside real ones, for several networks and sizes on this device.

    python benchmarks/forecast.py --calibration /tmp/calibration.json
    python benchmarks/forecast.py --calibration /tmp/calibration.json unet:3d:40x56x40:2 demo:2d:1x56x48:8

Each word is preset, configuration, patch and batch; without words three networks, in about five minutes with the
calibration, which is measured first where there is none yet. Of each network training takes up to 120 steps within
`--seconds`, batches made beside them, in the precision and memory format that were fastest:
`before` is the forecast over the mean of them; `after` is what a run says after 20 steps (its pace) over the mean of
the steps behind these; `rough` is what is said without a calibration. 1 is a perfect forecast. Images are noise: how
fast a step is does not depend on what they show. Nothing else may compute meanwhile, unless `--cpu-time` counts the
seconds of the processor, of one thread, instead of the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import count
from pathlib import Path

import numpy as np
import torch

from autoseg.compute import devices
from autoseg.networks import calibrating, stopwatch
from autoseg.networks.work import measure_work
from autoseg.pipeline import timing
from autoseg.records.calibration import Calibration, Precision
from autoseg.records.configuration import Configuration
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.geometry import Box, Grid, Shape
from autoseg.records.labels import Labels
from autoseg.records.machine import DeviceProfile
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.volumes import Passage, PreprocessedCase
from autoseg.stages import planning
from autoseg.stages.planning.forecasting import rough
from autoseg.stages.planning.timing import step_seconds
from autoseg.stages.training import feeding, learner, resolve, sampling
from autoseg.stages.training.pace import pace
from autoseg.stages.training.request import Request
from autoseg.storage import read_record
from autoseg.workspace import plans_folder

STEPS_BEFORE, STEPS_AT_MOST, FEWEST_STEPS = 20, 120, 7
# A narrow and a wide convolutional network and a residual one, each step well below a second on two cores.
CASES = ("demo:2d:1x56x48:8", "unet:3d:28x40x24:2", "segresnet:3d:28x40x24:2")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("cases", nargs="*", default=CASES, help="preset:configuration:ZxYxX:batch")
    words.add_argument("--calibration", type=Path, required=True)
    words.add_argument("--dataset", default="hippocampus", help="A fingerprint of plans/reference.")
    words.add_argument("--device")
    words.add_argument("--seconds", type=float, default=45.0, help="Of training, a network.")
    words.add_argument("--cpu-time", action="store_true")
    given = words.parse_args()
    if given.cpu_time:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        stopwatch.clock = time.process_time
    if not given.calibration.exists():
        timing.calibrate(given.calibration, given.device)
    calibration = read_record(given.calibration, Calibration)
    device = calibration.device.model_copy(update={"memory_gb": 8.0})
    devices.set_threads(device.threads)
    speed = devices.find(device.kind, calibrate=True).flops_per_second
    rows: list[dict[str, object]] = []
    for case in given.cases:
        plan, configuration = made(case, given.dataset, device)
        works = [
            measure_work(
                configuration.architecture,
                configuration.recipe,
                configuration.patch_shape,
                configuration.batch_size,
                precision=precision,
                device_kind=device.kind,
            )
            for precision in calibrating.precisions(device)
        ]
        row = {"case": case, "patch": configuration.patch_shape, "batch": configuration.batch_size}
        predicted = step_seconds(configuration, works, calibration), rough(configuration, speed, device.kind)
        rows.append(row | compared(plan, configuration, predicted, given.seconds))
        print(json.dumps(rows[-1]), flush=True)
    clock = "processor" if given.cpu_time else "wall"
    print(f"forecast over what a step took, {clock} clock, {device.name}, {device.threads} threads:")
    for row in rows:
        after = "too few steps" if row["after"] is None else row["after"]
        print(
            f"{row['case']:30} before {row['before']}, after {STEPS_BEFORE} steps {after}, uncalibrated {row['rough']}"
        )


def made(case: str, dataset: str, device: DeviceProfile) -> tuple[Plan, Configuration]:
    """Return the plan with the patch and batch that were asked for, and the configuration that has them."""
    name, kind, patch, batch = case.split(":")
    fingerprint = read_record(plans_folder() / "reference" / dataset / "fingerprint.json", Fingerprint)
    preset = planning.load_preset(name)
    update = {"batch_size": int(batch), "patch_shape": tuple(int(size) for size in patch.split("x"))}
    preset = preset.model_copy(update={"planning": preset.planning.model_copy(update=update)})
    plan = planning.make_plan(fingerprint, [preset], device)
    return plan, plan.configuration(f"{name}_{kind}")


def compared(
    plan: Plan, configuration: Configuration, predicted: tuple[float, float], limit: float
) -> dict[str, object]:
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
    rules = resolve.sampling_rules(request, configuration.batch_size)
    precision, layout = fastest(request, rules)
    pupil = learner.build(request, precision=precision, memory_format=layout)
    times, begun = [stopwatch.clock()], time.perf_counter()
    for number, (batch, _) in enumerate(feeding.batches(rules, request.cases, count(), device=request.device)):
        learner.advance(pupil, batch, number=number, rate=1e-4).item()
        times.append(stopwatch.clock())
        if len(times) > STEPS_AT_MOST or (time.perf_counter() - begun > limit and len(times) > FEWEST_STEPS):
            break
    steps = np.diff(times)
    real, first, rest = steps[1:].mean(), pace(steps[:STEPS_BEFORE].tolist()), steps[STEPS_BEFORE:]
    return {
        "precision": precision,
        "memory_format": layout,
        "predicted_s": round(predicted[0], 4),
        "real_s": round(float(real), 4),
        "before": round(float(predicted[0] / real), 3),
        "rough": round(float(predicted[1] / real), 3),
        "after": round(float(first / rest.mean()), 3) if len(rest) > STEPS_BEFORE // 2 else None,
        "steps": len(steps),
        "torch": torch.__version__,
    }


def fastest(request: Request, rules: sampling.Rules) -> tuple[Precision, str]:
    """Return precision and memory format of the fastest step; training finds them in the same way."""
    batch = next(feeding.batches(rules, request.cases, [0], device=request.device))[0]
    found: dict[tuple[Precision, str], float] = {}
    for precision in resolve.precisions(request):
        for layout in resolve.FORMATS:
            pupil = learner.build(request, precision=precision, memory_format=layout)
            times = []
            for number in range(3):
                begun = stopwatch.clock()
                learner.advance(pupil, batch, number=number, rate=0.0).item()
                times.append(stopwatch.clock() - begun)
            found[precision, layout] = min(times)
    return min(found, key=lambda key: found[key])


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
