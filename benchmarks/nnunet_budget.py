"""nnU-Net's trainer within a budget of seconds, in pieces that resume; runs in the environment that has `nnunetv2`.

    python nnunet_budget.py FOLDER --fold 0 --seed 0 --budget-seconds 300 --piece-seconds 80 [--bf16] [--device cpu]

Its 250,000 steps do not fit: as many steps are taken as the budget holds at the speed of its first steps, and its
polynomial schedule ends with the last of them. Then the fold's held-out cases are predicted, as its own validation does
it, into FOLDER/predictions. Prints "done" or "to be continued".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_steps import make_trainer
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

MEASURED_STEPS, FEWEST_STEPS = 3, 5
POWER = 0.9


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("--fold", type=int, default=0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--budget-seconds", type=float, required=True)
    words.add_argument("--piece-seconds", type=float, default=80.0)
    words.add_argument("--bf16", action="store_true")
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    deadline = time.perf_counter() + given.piece_seconds
    given.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr):
        torch.manual_seed(given.seed)
        np.random.seed(given.seed)
        trainer = make_trainer(given.device, bf16=given.bf16, fold=given.fold)
        ended = train(trainer, given, deadline) and predict(trainer, given, deadline)
    print("done" if ended else "to be continued")
    sys.stdout.flush()
    for loader in multiprocessing.active_children():
        loader.kill()  # they would outlive this process and hold the pipe that its words go through
    os._exit(0)  # its loaders' threads are waited for otherwise


def train(trainer: Any, given: argparse.Namespace, deadline: float) -> bool:
    """Do steps until the run or the piece is over; return whether the run is."""
    path = given.folder / "state.pth"
    state = torch.load(path, weights_only=True) if path.exists() else {"step": 0, "seconds": 0.0, "steps": 0}
    if path.exists():
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    if state["steps"] and state["step"] >= state["steps"]:
        return True
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    begun, before = time.perf_counter(), state["seconds"]
    while not state["steps"] or state["step"] < state["steps"]:
        progress = state["step"] / max(state["steps"], state["step"] + 1)
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - progress if state["steps"] else 1.0) ** POWER
        trainer.train_step(next(trainer.dataloader_train))
        state["step"] += 1
        state["seconds"] = before + time.perf_counter() - begun
        if not state["steps"] and state["step"] == MEASURED_STEPS:
            state["steps"] = max(FEWEST_STEPS, int(given.budget_seconds / (state["seconds"] / MEASURED_STEPS)))
        if state["steps"] and time.perf_counter() > deadline:
            break
    save(path, trainer, state)
    return bool(state["step"] >= state["steps"])


def save(path: Path, trainer: Any, state: dict[str, Any]) -> None:
    content = state | {"network": trainer.network.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    torch.save(content, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    summary = {name: state[name] for name in ("step", "steps", "seconds")}
    path.with_name("state.json").write_text(json.dumps(summary))


def predict(trainer: Any, given: argparse.Namespace, deadline: float) -> bool:
    """Predict held-out cases until the piece is over; return whether all are there."""
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    predictor = nnUNetPredictor(device=torch.device(given.device), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    images = Path(os.environ["nnUNet_raw"]) / trainer.plans_manager.dataset_name / "imagesTr"  # noqa: SIM112
    out = given.folder / "predictions"
    out.mkdir(exist_ok=True)
    for case in trainer.do_split()[1]:
        if (out / f"{case}.nii.gz").exists():
            continue
        if time.perf_counter() > deadline:
            return False
        image, properties = SimpleITKIO().read_images([str(images / f"{case}_0000.nii.gz")])
        labels = predictor.predict_single_npy_array(image, properties)
        SimpleITKIO().write_seg(labels, str(out / f"new_{case}.nii.gz"), properties)
        (out / f"new_{case}.nii.gz").replace(out / f"{case}.nii.gz")
    return True


if __name__ == "__main__":
    main()
