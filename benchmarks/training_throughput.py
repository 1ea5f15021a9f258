"""Samples a second of training, augmentation included: autoseg beside nnU-Net, the same network, patch and batch.

    python benchmarks/training_throughput.py prepare --root /tmp/bench --peers /path/to/env/bin
    python benchmarks/training_throughput.py autoseg --root /tmp/bench --steps 20
    python benchmarks/training_throughput.py nnunet --root /tmp/bench --peers /path/to/env/bin --steps 8
    python benchmarks/training_throughput.py nnunet-bf16 --root /tmp/bench --peers /path/to/env/bin --steps 10
    python benchmarks/training_throughput.py augmentation --root /tmp/bench --peers /path/to/env/bin
    python benchmarks/training_throughput.py table --root /tmp/bench

`--peers` is the `bin` folder of an environment with `nnunetv2`. Each part is short and adds a row to
`ROOT/throughput.jsonl`; `table` takes the last row of each part, or the fastest with `--best`. Both programs plan
hippocampus for themselves and come to the same U-Net (4 stages, 32 to 256 features), patch (40, 56, 40) and batch (7);
`table` refuses to compare anything else. nnU-Net runs as shipped (float32 on a CPU, its own loader processes) and with
a bfloat16 autocast given to it. The first call of `autoseg` also measures which precision and memory format it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from against_nnunet import write_nnunet_raw

import autoseg
from autoseg.compute import allocator, devices
from autoseg.records.model import ModelId, RunRecord
from autoseg.stages import preprocessing, training
from autoseg.stages.training import feeding, sampling
from autoseg.storage import read_record
from autoseg.workspace import Workspace

WARM_UP_STEPS = 3
NAME, CONFIGURATION = "Hippocampus", "unet_3d"
# The history's lines, with their forward passes on the side, come after 50 steps of a run of 1000.
SETTINGS = {"epochs": "1", "steps_per_epoch": "1000"}
PARTS = {
    "autoseg": "autoseg",
    "nnunet": "nnU-Net as shipped",
    "nnunet-bf16": "nnU-Net, bfloat16 given to it",
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("part", choices=("prepare", *PARTS, "augmentation", "table"))
    words.add_argument("--root", type=Path, required=True)
    words.add_argument("--peers", type=Path, help="bin folder of an environment with nnunetv2")
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--device", default="cpu")
    words.add_argument("--steps", type=int, default=8)
    words.add_argument("--samples", type=int, default=70)
    words.add_argument("--best", action="store_true", help="Compare the fastest row of each part, not the last.")
    given = words.parse_args()
    work = Workspace.locate(NAME, given.root / "autoseg")
    if given.part == "prepare":
        prepare(given)
    elif given.part == "table":
        print(table(rows(given.root), best=given.best))
    elif given.part == "augmentation":
        note(
            given,
            augmentation_of_autoseg(work, given)
            | {"peer": peer(given, "augmentation", "--samples", str(given.samples))},
        )
    elif given.part == "autoseg":
        note(given, steps_of_autoseg(work, given))
    else:
        extra = ["--bf16"] if given.part == "nnunet-bf16" else []
        note(given, peer(given, "steps", "--steps", str(given.steps), "--device", given.device, *extra))


def prepare(given: argparse.Namespace) -> None:
    """Let both programs plan and preprocess, each as its users do."""
    root = ["--root", str(given.root / "autoseg")]
    program = [sys.executable, "-m", "autoseg"]
    data = str(given.data.resolve())
    if not (given.root / "autoseg" / NAME / "dataset.json").exists():
        subprocess.run([*program, "import", data, "--as", NAME, "--groups", "(id+1)//2", *root], check=True)
    subprocess.run([*program, "plan_and_preprocess", "-d", NAME, *root], check=True)
    raw = given.root / "nnunet" / "raw"
    if not raw.exists():
        write_nnunet_raw(given.data.resolve(), raw)
    if not (given.root / "nnunet" / "preprocessed" / "Dataset004_Hippocampus" / "nnUNetPlans_3d_fullres").exists():
        command = [str(given.peers / "nnUNetv2_plan_and_preprocess"), "-d", "4", "-c", "3d_fullres", "-np", "2"]
        subprocess.run(command, env=environment(given.root), check=True)


def steps_of_autoseg(work: Workspace, given: argparse.Namespace) -> dict[str, Any]:
    """Time steps of a run as `autoseg train` does them; a later call goes on with the same run."""
    plan, (model, cases) = work.plan("default"), fold(work)
    ticks: list[tuple[float, float]] = []

    def count(now: training.Progress) -> None:
        ticks.append((time.perf_counter(), now.wait_fraction * now.step_seconds * len(ticks)))
        if len(ticks) == WARM_UP_STEPS + given.steps:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        terms = training.Terms(settings=SETTINGS, device=given.device)
        training.fit(plan, model, work.model(model), training.TrainingSet(cases), terms=terms, on_progress=count)
    if len(ticks) < WARM_UP_STEPS + given.steps:
        sys.exit("interrupted")
    record = read_record(work.model(model) / "run.json", RunRecord)
    (begun, waited_before), (ended, waited) = ticks[WARM_UP_STEPS - 1], ticks[-1]
    return {
        "seconds": ended - begun,
        "steps": given.steps,
        "batch_size": record.batch_size,
        "patch_shape": list(record.configuration.patch_shape),
        "wait_fraction": (waited - waited_before) / (ended - begun),
        "precision": record.precision,
        "memory_format": record.memory_format,
    }


def augmentation_of_autoseg(work: Workspace, given: argparse.Namespace) -> dict[str, Any]:
    """Time the augmentation alone, in one thread, of windows that lie in memory."""
    import torch

    plan, (_, cases) = work.plan("default"), fold(work)
    configuration = plan.configuration(CONFIGURATION)
    rules = sampling.Rules(
        seed=0,
        batch_size=configuration.batch_size,
        patch_shape=configuration.patch_shape,
        foreground_fraction=configuration.recipe.foreground_fraction,
        structures=len(plan.labels.structures),
        mirror_axes=configuration.mirror_axes,
        augmentation=configuration.recipe.augmentation,
    )
    torch.set_num_threads(1)
    allocator.keep_freed_memory()  # as a training run does
    held = sampling.hold(cases, 1e9)
    seconds, count, step = 0.0, 0, 0
    while count < given.samples:
        windows = sampling.read(rules, held, step)
        begun = time.perf_counter()
        feeding.augmented(rules, windows, device="cpu")
        if step:  # the first one fills caches
            seconds, count = seconds + time.perf_counter() - begun, count + rules.batch_size
        step += 1
    return {"seconds": seconds, "samples": count}


def fold(work: Workspace) -> tuple[ModelId, list[Any]]:
    plan = work.plan("default")
    folder = work.preprocessed(plan.configuration(CONFIGURATION).data_key)
    model = ModelId(dataset=NAME, plan="default", configuration=CONFIGURATION, variant="throughput", fold="0")
    return model, [preprocessing.open_case(folder, id) for id in work.dataset().fold("0").training]


def environment(root: Path) -> dict[str, str]:
    place = root.resolve() / "nnunet"
    folders = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | folders


def peer(given: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    script = Path(__file__).with_name("nnunet_steps.py")
    done = subprocess.run(
        [str(given.peers / "python"), str(script), *arguments],
        env=environment(given.root),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"nnU-Net failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def note(given: argparse.Namespace, row: dict[str, Any]) -> None:
    row = {"part": given.part, **row, "device": devices.find(given.device).name, "version": autoseg.__version__}
    with open(given.root / "throughput.jsonl", "a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


def rows(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "throughput.jsonl").read_text().splitlines()]


def table(found: list[dict[str, Any]], *, best: bool) -> str:
    """Return what was measured as a Markdown table; ratios are to each of nnU-Net's rows."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in found:
        part = row["part"]
        if not best or part not in chosen or speed(row) > speed(chosen[part]):
            chosen[part] = row
    lines = ["| | s a sample | voxels a second | waiting for data | autoseg is faster by |", "|---|---|---|---|---|"]
    trained = {part: chosen[part] for part in PARTS if part in chosen}
    shapes = {(row["batch_size"], *row["patch_shape"]) for row in trained.values()}
    if len(shapes) > 1:
        sys.exit(f"the rows are of different batches and patches: {sorted(shapes)}")
    for part, row in trained.items():
        voxels = speed(row) * row["patch_shape"][0] * row["patch_shape"][1] * row["patch_shape"][2]
        ratio = f"{speed(trained['autoseg']) / speed(row):.2f} x" if part != "autoseg" and "autoseg" in trained else ""
        lines.append(f"| {PARTS[part]} | {1 / speed(row):.3f} | {voxels:,.0f} | {row['wait_fraction']:.1%} | {ratio} |")
    if "augmentation" in chosen:
        row = chosen["augmentation"]
        mine, theirs = speed(row), speed(row["peer"])
        lines.append(f"| augmentation alone, autoseg | {1 / mine:.4f} | | | |")
        lines.append(f"| augmentation alone, batchgeneratorsv2 | {1 / theirs:.4f} | | | {mine / theirs:.1f} x |")
    return "\n".join(lines)


def speed(row: dict[str, Any]) -> float:
    """Return samples a second."""
    return float(row["samples"] if "samples" in row else row["steps"] * row["batch_size"]) / float(row["seconds"])


if __name__ == "__main__":
    main()
