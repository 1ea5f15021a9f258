"""Seconds that planning takes, configuration by configuration, with no dry run remembered.

    python benchmarks/planning_time.py                          # all presets, HaN-Seg, 24 GB
    python benchmarks/planning_time.py --preset unetr --runs    # one preset, every dry run on a line

Each line is a configuration, then a preset; the last two lines are the slowest configuration and all presets together.
`3d_lowres` alone also pays for finding the spacing at which a patch covers enough (`spacing`). Seconds are of the
processor, of all threads, and of the clock; the clock's mean nothing where something else computes. What torch loads
once is done before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from autoseg.networks import memory
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.machine import DeviceProfile
from autoseg.stages.planning import drafting, load_preset, make_plan, parts, preset_names
from autoseg.storage import read_record
from autoseg.workspace import plans_folder

NOT_FOR_USE = ("demo", "smoke")


@dataclass
class Spent:
    """Seconds by what they were spent on, and the dry runs among them.

    Attributes:
        seconds: Configuration or `spacing` -> processor and wall seconds.
        runs: Likewise, dry runs.
        now: What is being planned.
        tell: Whether every dry run is printed.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    now: str = "before"
    tell: bool = False


def main() -> None:
    """Plan each preset and print what it took."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--preset", action="append", help="Again for more; all where none is named.")
    words.add_argument("--dataset", default="han_seg", help="A fingerprint of plans/reference.")
    words.add_argument("--memory-gb", type=float, default=24.0)
    words.add_argument("--runs", action="store_true", help="Print every dry run.")
    given = words.parse_args()
    fingerprint = read_record(plans_folder() / "reference" / given.dataset / "fingerprint.json", Fingerprint)
    device = DeviceProfile(kind="cuda", name="reference", memory_gb=given.memory_gb, fast_bfloat16=True)
    memory.load()
    rows: list[tuple[str, float, float]] = []
    totals = [0.0, 0.0]
    for preset in given.preset or [name for name in preset_names() if name not in NOT_FOR_USE]:
        spent, taken = planned(fingerprint, preset, device, tell=given.runs)
        for kind, (processor, wall) in spent.seconds.items():
            name = f"{preset}_{kind}"
            rows.append((name, processor, wall))
            print(json.dumps(_row(name, processor, wall) | {"dry_runs": spent.runs[kind]}), flush=True)
        print(json.dumps(_row(preset, *taken)), flush=True)
        totals = [before + more for before, more in zip(totals, taken, strict=True)]
    name, processor, wall = max(rows, key=lambda row: row[1])
    print(json.dumps({"slowest": _row(name, processor, wall)}))
    print(json.dumps({"all": _row(f"{given.dataset}, {given.memory_gb:g} GB", *totals)}))


def planned(
    fingerprint: Fingerprint, preset: str, device: DeviceProfile, *, tell: bool
) -> tuple[Spent, tuple[float, float]]:
    """Return what each configuration of a preset took, and processor and wall seconds of the whole plan."""
    memory.forget()
    spent = Spent(tell=tell)
    # Planning itself tells nothing of where it is: its two steps are watched from outside.
    drafts = patch.object(parts, "draft", _watched(spent, drafting.draft, None))
    spacings = patch.object(parts, "low_resolution", _watched(spent, drafting.low_resolution, "spacing"))
    begun = time.process_time(), time.perf_counter()
    with drafts, spacings:
        make_plan(fingerprint, [load_preset(preset)], device, cost=_watched_cost(spent), version="benchmark")
    return spent, (time.process_time() - begun[0], time.perf_counter() - begun[1])


def _watched(spent: Spent, call: Callable[..., Any], name: str | None) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        spent.now = name or args[1]
        begun = time.process_time(), time.perf_counter()
        result = call(*args, **kwargs)
        row = spent.seconds[spent.now]
        row[0] += time.process_time() - begun[0]
        row[1] += time.perf_counter() - begun[1]
        spent.now = "between"
        return result

    return watched


def _watched_cost(spent: Spent) -> Callable[..., memory.StepCost]:
    def cost(architecture: Any, recipe: Any, patch_shape: Any, batch_size: int, **how: Any) -> memory.StepCost:
        begun = time.process_time()
        step = memory.measure_step(architecture, recipe, patch_shape, batch_size, **how)
        spent.runs[spent.now] += 1
        if spent.tell:
            shape = "x".join(str(size) for size in patch_shape)
            spared = " recomputed" if architecture.checkpointing else ""
            print(
                f"  {spent.now}: {shape} batch {batch_size}{spared}, {step.peak_bytes / 2**30:.2f} GB,"
                f" {time.process_time() - begun:.2f} s",
                flush=True,
            )
        return step

    return cost


def _row(name: str, processor: float, wall: float) -> dict[str, Any]:
    return {"name": name, "processor_s": round(processor, 2), "wall_s": round(wall, 2)}


if __name__ == "__main__":
    main()
