"""A model of random weights that both programs load: nnU-Net's folder, and the model file that autoseg makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEER_SCRIPT = Path(__file__).with_name("nnunet_predicts.py")
# A small network's plans, as nnU-Net writes them; what differs is filled in.
PLANS = Path(__file__).parents[1] / "tests/stages/exporting/nnunet_plans.json"


@dataclass(frozen=True)
class Model:
    """What both load.

    Attributes:
        folder: As nnU-Net trains it.
        file: The same for autoseg, same weights.
        peers: An interpreter that has nnunetv2.
    """

    folder: Path
    file: Path
    peers: str


def make_model(place: Path, peers: str, *, patch: Sequence[int], features: Sequence[int], classes: int,
               spacing_mm: float, ct: bool, mirror_axes: Sequence[int] = ()) -> Model:  # fmt: skip
    """Return a plain U-Net of isotropic kernels with random weights."""
    folder = place / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(_plans(patch, features, spacing_mm, "CT" if ct else "ZScore")))
    names = {"background": 0, **{f"structure {value}": value for value in range(1, classes)}}
    channel = {"0": "CT" if ct else "MRI"}
    described = {"channel_names": channel, "labels": names, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described | {"mirror_axes": list(mirror_axes)}))
    run(peers, PEER_SCRIPT, "make", folder)
    file = place / "model.zip"
    run(sys.executable, "-m", "autoseg", "import-model", folder, "-o", file, "--licence", "none")
    return Model(folder, file, peers)


@dataclass(frozen=True)
class Run:
    """A process that has ended: what it printed, wall time, and the most memory that it had."""

    told: str
    seconds: float
    peak_gb: float

    def figures(self) -> dict[str, float]:
        """Return seconds and GB, rounded."""
        return {"seconds": round(self.seconds, 2), "peak_gb": round(self.peak_gb, 3)}


def run(*words: str | Path) -> Run:
    """Run a program to its end; what it says of an error ends this one."""
    places = {f"nnUNet_{name}": "/nowhere" for name in ("raw", "preprocessed", "results")}
    started = time.perf_counter()
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, env={**os.environ, **places})  # fmt: skip
    assert process.stdout is not None
    told = process.stdout.read()
    # The children of this very process, which `subprocess` does not tell.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(told[-4000:])
    return Run(told, time.perf_counter() - started, usage.ru_maxrss / 2**20)


def _plans(patch: Sequence[int], features: Sequence[int], spacing_mm: float, normalization: str) -> dict[str, Any]:
    """Return plans as nnU-Net 2 writes them."""
    content: dict[str, Any] = json.loads(PLANS.read_text())
    configuration = content["configurations"].pop("3d")
    stages = len(features)
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    configuration |= {
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(patch),
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": [f"{normalization}Normalization"],
        "batch_dice": False,
    }
    numbers = {"max": 1300.0, "mean": 0.0, "median": 0.0, "min": -1000.0, "percentile_00_5": -950.0,
               "percentile_99_5": 1000.0, "std": 400.0}  # fmt: skip
    return content | {
        "dataset_name": "Dataset001_Random",
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": list(patch),
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {"0": numbers},
    }
