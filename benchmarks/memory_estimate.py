"""The memory that a plan expects beside what a real step holds, for every preset at two sizes.

    python benchmarks/memory_estimate.py                     # on a CPU: the same counter on real tensors
    python benchmarks/memory_estimate.py --device cuda       # beside torch's own max_memory_allocated and _reserved
    python benchmarks/memory_estimate.py --device cuda --calibration autoseg_data/calibration.json
    python benchmarks/memory_estimate.py --presets residual_unet_xl --patch 32 32 32 --batch 2     # a small step

Each preset is planned for the hippocampus fingerprint in `plans/reference`, and its step is run at half of the planned
batch (at least one sample) and at all of it. With `--calibration` what the card, with nothing else on it, holds beside
the tensors of a step (context, workspaces, fragmentation) is noted in that file of `autoseg calibrate`: plans for the
card then count on it instead of the rule of thumb.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoseg.networks import catalog, losses, memory, step
from autoseg.records.calibration import Calibration
from autoseg.records.configuration import Configuration
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.machine import CardOverhead, DeviceProfile
from autoseg.records.plan import Plan
from autoseg.stages import planning
from autoseg.storage import read_record, write_record

FINGERPRINT = Path(__file__).resolve().parents[1] / "plans" / "reference" / "hippocampus" / "fingerprint.json"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    words.add_argument("--memory-gb", type=float, default=8.0)
    words.add_argument("--presets", nargs="*", default=[name for name in planning.preset_names() if name != "smoke"])
    words.add_argument("--patch", type=int, nargs=3, help="By hand, and then --batch alone is run.")
    words.add_argument("--batch", type=int, default=2)
    words.add_argument("--calibration", type=Path, help="Of this card: note in it what the card holds besides.")
    given = words.parse_args()
    if given.calibration and given.device != "cuda":
        words.error("--calibration needs --device cuda: a CPU holds nothing besides")
    calibration = read_record(given.calibration, Calibration) if given.calibration else None
    rows = []
    fingerprint = Fingerprint.parse(FINGERPRINT.read_bytes(), file=str(FINGERPRINT))
    device = DeviceProfile(kind=given.device, name="bench", memory_gb=given.memory_gb, fast_bfloat16=True)
    for name in given.presets:
        preset = planning.load_preset(name)
        if given.patch:
            by_hand = {"patch_shape": tuple(given.patch), "batch_size": given.batch}
            preset = preset.model_copy(update={"planning": preset.planning.model_copy(update=by_hand)})
        plan = planning.make_plan(fingerprint, [preset], device)
        configuration = plan.configuration(plan.lineup[0].configuration)
        if given.patch:
            configuration = next(item for item in plan.configurations if item.dimensions == 3)
        sizes = {given.batch} if given.patch else {max(1, configuration.batch_size // 2), configuration.batch_size}
        for batch in sorted(sizes):
            rows.append(compare(plan, configuration, batch, given.device))
            print(json.dumps(rows[-1]), flush=True)
    if calibration is not None:
        overhead = overhead_of(rows)
        print(overhead.to_json())
        device = calibration.device.model_copy(update={"overhead": overhead})
        write_record(given.calibration, calibration.model_copy(update={"device": device}))


def overhead_of(rows: Sequence[Mapping[str, Any]]) -> CardOverhead:
    """Return the most that any step held of each: beside the allocator, above its estimate, reserved over held."""
    return CardOverhead(
        context_bytes=max(row["context_mib"] for row in rows) * 2**20,
        workspace_bytes=max(0, *(row["real_mib"] - row["estimate_mib"] for row in rows)) * 2**20,
        fragmentation=max(1.0, *(round(row["reserved_mib"] / row["real_mib"], 3) for row in rows)),
    )


def compare(plan: Plan, configuration: Configuration, batch: int, device: str) -> dict[str, Any]:
    """Return estimate and measurement of one step, in MiB, and their ratio."""
    architecture, recipe, shape = configuration.architecture, configuration.recipe, configuration.patch_shape
    estimate = memory.measure_step(architecture, recipe, shape, batch, device_kind=device).peak_bytes
    row: dict[str, Any] = {"configuration": configuration.name, "patch": shape, "batch": batch}
    if device == "cuda":
        found = on_card(plan, configuration, batch)
        free, total = torch.cuda.mem_get_info()
        row |= {
            "reserved_mib": round(torch.cuda.max_memory_reserved() / 2**20),
            "context_mib": round((total - free - torch.cuda.memory_reserved()) / 2**20),
        }
    else:
        found = memory.count(
            architecture,
            (*shape, batch),
            lambda network: real_step(plan, configuration, network),
            device_kind="cpu",
            fake=False,
        ).peak_bytes
    return row | {
        "estimate_mib": round(estimate / 2**20),
        "real_mib": round(found / 2**20),
        "ratio": round(estimate / found, 4),
    }


def real_step(plan: Plan, configuration: Configuration, network: nn.Module) -> memory.Step:
    """Return the training step of a configuration with the optimiser's state in place, labels drawn at random."""
    recipe = configuration.recipe
    loss = losses.make_loss(recipe, plan.labels, batch_dice=configuration.batch_dice)
    optimizer = step.make_optimizer(network, recipe)
    memory.fill_state(optimizer)
    average = step.make_average(network, recipe.ema_decay)

    def run(image: torch.Tensor) -> torch.Tensor:
        labels = torch.randint(0, len(plan.labels.structures) + 1, image[:, 0].shape, device=image.device)
        return step.train_step(
            network,
            loss,
            optimizer,
            image,
            losses.Target(labels),
            precision="bfloat16",
            clip=recipe.clip,
            ema=average,
            dimensions=configuration.dimensions,
        )

    return run


def on_card(plan: Plan, configuration: Configuration, batch: int) -> int:
    """Return `max_memory_allocated` of the third of three real steps on the card."""
    torch.cuda.empty_cache()  # what an earlier network left reserved is not this one's
    network = catalog.build(configuration.architecture).cuda().train()
    run = real_step(plan, configuration, network)
    image = torch.randn(batch, configuration.architecture.input_channels, *configuration.patch_shape, device="cuda")
    for _ in range(3):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run(image)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
