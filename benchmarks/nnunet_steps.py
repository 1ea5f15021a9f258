"""Steps of nnU-Net's own trainer and loaders on a CPU or a card, timed; runs in the environment that has `nnunetv2`.

    python nnunet_steps.py steps --steps 8 [--bf16] [--device cpu]
    python nnunet_steps.py augmentation --samples 40

`nnUNet_raw`, `nnUNet_preprocessed` and `nnUNet_results` name its folders. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module

DATASET = "Dataset004_Hippocampus"
WARM_UP_STEPS = 2


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("what", choices=("steps", "augmentation"))
    words.add_argument("--steps", type=int, default=8)
    words.add_argument("--samples", type=int, default=40)
    words.add_argument("--bf16", action="store_true", help="Give the CPU's forward pass a bfloat16 autocast.")
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        found = time_steps(given) if given.what == "steps" else time_augmentation(given)
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # its loaders are daemons that wait for ever otherwise


def make_trainer(device: str, *, bf16: bool = False, fold: int = 0) -> Any:
    folder = Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112 (its own spelling)
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((folder / "dataset.json").read_text())
    if bf16:
        give_autocast()
    if device == "cpu":
        torch.set_num_threads(os.cpu_count() or 1)  # as its command does
    trainer = trainer_module.nnUNetTrainer(plans, "3d_fullres", fold, description, device=torch.device(device))
    trainer.initialize()
    return trainer


def give_autocast() -> None:
    """Put bfloat16 where its `train_step` has a context that does nothing on a CPU."""
    trainer_module.dummy_context = lambda: torch.autocast("cpu", dtype=torch.bfloat16)


def time_steps(given: argparse.Namespace) -> dict[str, Any]:
    trainer = make_trainer(given.device, bf16=given.bf16)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    waited, begun, losses = 0.0, 0.0, []
    for step in range(WARM_UP_STEPS + given.steps):
        if step == WARM_UP_STEPS:
            waited, begun = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(trainer.dataloader_train)
        waited += time.perf_counter() - asked
        losses.append(float(trainer.train_step(batch)["loss"]))
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "steps": given.steps,
        "batch_size": trainer.batch_size,
        "patch_shape": list(trainer.configuration_manager.patch_size),
        "wait_fraction": waited / seconds,
        "loss": losses[-1],
    }


def time_augmentation(given: argparse.Namespace) -> dict[str, Any]:
    """Time the transforms alone, in one thread, on the windows that its loader hands them."""
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    torch.set_num_threads(1)
    trainer = make_trainer("cpu")
    loader = trainer.get_dataloaders()[0].data_loader
    transforms, seconds, count = loader.transforms, 0.0, 0

    def timed(**sample: Any) -> Any:
        nonlocal seconds, count
        begun = time.perf_counter()
        result = transforms(**sample)
        seconds, count = seconds + time.perf_counter() - begun, count + 1
        return result

    loader.transforms = timed
    while count < given.samples:
        loader.generate_train_batch()
    return {"seconds": seconds, "samples": count}


if __name__ == "__main__":
    main()
