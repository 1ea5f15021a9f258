"""Whether planned steps run on cards of every size, and how much of the card they use; needs one large card.

    python benchmarks/emulated_cards.py                                # every preset at 8, 12, 24, 40 and 80 GB
    python benchmarks/emulated_cards.py --presets unet,mednext --gb 8,24 --calibration autoseg_data/calibration.json

Each preset is planned for a fingerprint of `plans/reference`, and 100 steps of each configuration are run in a process
whose share of the card is bounded by `set_per_process_memory_fraction`. Wanted: no step runs out of memory, and 0.8 of
the card is used unless the data's size is the bound. A line is printed for each configuration; nothing else may use the
card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from memory_estimate import real_step

from autoseg.networks import catalog
from autoseg.records.calibration import Calibration
from autoseg.records.configuration import Configuration
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.machine import CardOverhead, DeviceProfile
from autoseg.records.plan import Plan
from autoseg.stages import planning
from autoseg.storage import read_record, write_record

REFERENCE = Path(__file__).resolve().parents[1] / "plans" / "reference"
PRESETS = ",".join(name for name in planning.preset_names() if name not in ("smoke", "demo"))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--presets", default=PRESETS)
    words.add_argument("--gb", default="8,12,24,40,80")
    words.add_argument("--dataset", default="han_seg", help="A folder of plans/reference.")
    words.add_argument("--steps", type=int, default=100)
    words.add_argument("--calibration", type=Path, help="Plan with the overhead that is noted in it.")
    words.add_argument("--folder", type=Path, default=Path("emulated_cards"), help="For the plans.")
    words.add_argument("--run", nargs=3, metavar=("PLAN", "CONFIGURATION", "GB"), help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.run:
        file, name, gb = given.run
        plan = read_record(Path(file), Plan)
        print(json.dumps(run(plan, plan.configuration(name), float(gb), given.steps)))
        return
    overhead = read_record(given.calibration, Calibration).device.overhead if given.calibration else None
    for gb in map(float, given.gb.split(",")):
        for preset in given.presets.split(","):
            file = given.folder / f"{given.dataset}_{preset}_{gb:g}gb.json"
            plan = planned(given.dataset, preset, gb, overhead)
            write_record(file, plan)
            for entry in plan.lineup:
                print(json.dumps(in_a_process(file, entry.configuration, gb, given.steps)), flush=True)


def planned(dataset: str, preset: str, gb: float, overhead: CardOverhead | None) -> Plan:
    path = REFERENCE / dataset / "fingerprint.json"
    device = DeviceProfile(kind="cuda", name="emulated", memory_gb=gb, fast_bfloat16=True, overhead=overhead)
    return planning.make_plan(read_record(path, Fingerprint), [planning.load_preset(preset)], device)


def in_a_process(file: Path, configuration: str, gb: float, steps: int) -> dict[str, Any]:
    """Return what a run said; a process of its own begins with an empty card."""
    words = ["--run", str(file), configuration, str(gb), "--steps", str(steps)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    row = {"plan": file.stem, "configuration": configuration}
    if done.returncode:
        return row | {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}
    return row | json.loads(done.stdout.splitlines()[-1])


def run(plan: Plan, configuration: Configuration, gb: float, steps: int) -> dict[str, Any]:
    """Run steps of a configuration on a part of the card, and return how much of that part was used."""
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.ones(1, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    context = whole - free - torch.cuda.memory_reserved()
    # The fraction bounds the allocator alone, so what a card of that size would lose to the context is taken off.
    torch.cuda.set_per_process_memory_fraction(min(1.0, (gb * 2**30 - context) / whole))
    network = catalog.build(configuration.architecture).cuda().train()
    do_step = real_step(plan, configuration, network)
    shape = (configuration.batch_size, configuration.architecture.input_channels, *configuration.patch_shape)
    for _ in range(steps):
        do_step(torch.randn(shape, device="cuda"))
    torch.cuda.synchronize()
    used = torch.cuda.max_memory_reserved() + context
    return {
        "patch": configuration.patch_shape,
        "batch": configuration.batch_size,
        "used": round(used / (gb * 2**30), 3),
        "held": round(torch.cuda.max_memory_allocated() / (gb * 2**30), 3),
        "estimate": round(configuration.memory.peak_bytes / (gb * 2**30), 3),
    }


if __name__ == "__main__":
    main()
