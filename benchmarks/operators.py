"""Which operators of a training step a calibration prices wrongly: predicted beside real time, by kind and width.

    python benchmarks/operators.py --calibration /tmp/calibration.json mednext:3d:28x40x24:2

A word is preset, configuration, patch and batch, as for `forecast.py`. Every operator of a real step is timed where it
runs; what is left of the step is the bookkeeping between operators. `--profile` lets torch's profiler tell the time of
each operator instead of the clock. Nothing else may compute meanwhile, unless `--cpu-time` counts the processor's
seconds of one thread. The calibration is measured first where there is none yet.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forecast import made
from torch.profiler import ProfilerActivity, profile

from autoseg.compute import devices
from autoseg.networks import stopwatch
from autoseg.networks.catalog import build
from autoseg.networks.memory import training_step
from autoseg.networks.stopwatch import timed
from autoseg.networks.work import Row, WorkCounter
from autoseg.pipeline import timing
from autoseg.records.calibration import Amount, Calibration, Precision, StepWork
from autoseg.records.configuration import Configuration
from autoseg.stages.planning.timing import seconds
from autoseg.storage import read_record

STEPS = 5


class OperatorTimer(WorkCounter):
    """Adds up the seconds of every operator by what the counter takes it for.

    Attributes:
        seconds: (kind, dimensions, width, taps, precision) -> seconds of all calls.
        by_name: The same row and the operator's name -> seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[Row, float] = defaultdict(float)
        self.by_name: defaultdict[tuple[Row, str], float] = defaultdict(float)
        self._latest = (0.0, "")

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        begun = stopwatch.clock()
        result = func(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._latest = stopwatch.clock() - begun, func._overloadpacket.__name__
        return result

    def note(self, row: Row, amount: float) -> None:
        super().note(row, amount)
        taken, name = self._latest
        self.seconds[row] += taken
        self.by_name[row, name] += taken


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("cases", nargs="+", help="preset:configuration:ZxYxX:batch")
    words.add_argument("--calibration", type=Path, required=True)
    words.add_argument("--dataset", default="hippocampus", help="A fingerprint of plans/reference.")
    words.add_argument("--precision", nargs="*", default=["float32", "bfloat16"])
    words.add_argument("--memory-format", nargs="*", default=["contiguous", "channels_last"])
    words.add_argument("--names", action="store_true", help="Each operator by its name as well.")
    words.add_argument("--profile", action="store_true")
    words.add_argument("--cpu-time", action="store_true", help="Of the processor, of one thread, not the clock's.")
    given = words.parse_args()
    if given.cpu_time:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        stopwatch.clock = time.process_time
    if not given.calibration.exists():
        timing.calibrate(given.calibration)
    calibration = read_record(given.calibration, Calibration)
    device = calibration.device.model_copy(update={"memory_gb": 8.0})
    devices.set_threads(device.threads)
    for case in given.cases:
        _, configuration = made(case, given.dataset, device)
        for precision in given.precision:
            for layout in given.memory_format:
                step, image = prepared(configuration, precision, layout, torch.device(device.kind))
                print(f"{case} {precision} {layout}", flush=True)
                if given.profile:
                    profiled(step, image)
                else:
                    compared(step, image, calibration, layout, names=given.names)


def prepared(
    configuration: Configuration, precision: Precision, layout: str, device: torch.device
) -> tuple[Any, torch.Tensor]:
    """Return the step of a configuration, warmed up, and its image."""
    architecture = configuration.architecture
    lower = torch.channels_last if architecture.dimensions == 2 else torch.channels_last_3d
    network = build(architecture).to(device)
    image = torch.randn(
        configuration.batch_size, architecture.input_channels, *configuration.patch_shape, device=device
    )
    if layout == "channels_last":
        network = network.to(memory_format=lower)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last_3d)
    step = training_step(
        network, architecture=architecture, recipe=configuration.recipe, precision=precision, device=device
    )
    step(image)
    return step, image


def compared(step: Any, image: torch.Tensor, calibration: Calibration, layout: str, *, names: bool) -> None:
    """Print the rows of one step, those that take longest first."""
    whole = statistics.median(timed(partial(step, image), image.device) for _ in range(STEPS))
    found = []
    for _ in range(STEPS):
        with OperatorTimer() as timer:
            step(image)
        found.append(timer)
    timer = min(found, key=lambda item: sum(item.seconds.values()))
    by_row: defaultdict[Row, list[Amount]] = defaultdict(list)
    for item in timer.work().amounts:
        by_row[item.kind, item.dimensions, item.width, item.taps, item.precision].append(item)
    total = 0.0
    print(f"{'kind':36}{'calls':>6}{'real ms':>10}{'said ms':>10}{'ratio':>7}")
    for row, taken in sorted(timer.seconds.items(), key=lambda pair: -pair[1]):
        amounts = by_row.get(row, [])
        said = seconds(StepWork(amounts=tuple(amounts), calls=0), calibration, layout) if amounts else 0.0
        total += said
        calls = sum(item.calls for item in amounts)
        print(f"{' '.join(map(str, row)):36}{calls:6}{1e3 * taken:10.2f}{1e3 * said:10.2f}{said / taken:7.2f}")
        if names:
            parts = {name: value for (of, name), value in timer.by_name.items() if of == row}
            for name, value in sorted(parts.items(), key=lambda pair: -pair[1]):
                print(f"    {name:40}{1e3 * value:10.2f}")
    operators = sum(timer.seconds.values())
    print(json.dumps({"step_s": round(whole, 4), "operators_s": round(operators, 4), "said_s": round(total, 4)}))


def profiled(step: Any, image: torch.Tensor) -> None:
    """Print what torch's profiler says of a step."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        step(image)
    print(found.key_averages(group_by_input_shape=True).table(sort_by="self_cpu_time_total", row_limit=40))


if __name__ == "__main__":
    main()
