"""Run by an interpreter that has nnunetv2: makes a model of random weights, and predicts with it as nnU-Net does.

    python nnunet_predicts.py make FOLDER                     fold_0 of the network in FOLDER/plans.json
    python nnunet_predicts.py files FOLDER INPUT OUTPUT       a folder of scans, with its usual workers
    python nnunet_predicts.py array FOLDER SCAN OUT.npy       one scan in memory after a small one; seconds by part

The environment names nnU-Net's three folders, which are not used.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


def make(folder: Path) -> None:
    """Write a checkpoint whose weights are drawn so that classes compete everywhere."""
    plans, described = (json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json"))
    ((name, settings),) = plans["configurations"].items()
    architecture = settings["architecture"]
    torch.manual_seed(0)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        len(described["channel_names"]),
        len(described["labels"]),
        deep_supervision=True,
    )
    (folder / "fold_0").mkdir()
    content = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": name, "fold": 0, "plans": {}, "dataset_json": {}},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(described["mirror_axes"]) or None,
    }
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")


def predictor(folder: Path) -> predict_from_raw_data.nnUNetPredictor:
    """Return nnU-Net's predictor of the model, on the CPU."""
    loaded = predict_from_raw_data.nnUNetPredictor(
        device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    loaded.initialize_from_trained_model_folder(str(folder), ("0",), "checkpoint_final.pth")
    return loaded


def files(folder: Path, source: Path, output: Path) -> None:
    """Predict a folder as `nnUNetv2_predict_from_modelfolder` does by default."""
    predictor(folder).predict_from_files(
        str(source), str(output), num_processes_preprocessing=3, num_processes_segmentation_export=3
    )


def array(folder: Path, scan: Path, output: Path) -> None:
    """Predict a corner of a scan to warm up, then the scan, and tell what it took."""
    loaded = predictor(folder)
    image, properties = SimpleITKIO().read_images([str(scan)])
    spent: dict[str, float] = {}
    name = "predict_logits_from_preprocessed_data"
    setattr(loaded, name, timed(getattr(loaded, name), "network", spent))
    convert = "convert_predicted_logits_to_segmentation_with_correct_shape"
    setattr(predict_from_raw_data, convert, timed(getattr(predict_from_raw_data, convert), "export", spent))
    for part in (image[:, :32, :32, :32], image):
        started = time.perf_counter()
        labels = loaded.predict_single_npy_array(part, properties, None, None, False)
        spent["seconds"] = time.perf_counter() - started
    np.save(output, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({name: round(value, 3) for name, value in (spent | {"peak_gb": peak}).items()}))


def timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """Return the function, which keeps what its last call took."""

    def call(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = function(*given, **named)
        spent[name] = time.perf_counter() - started
        return result

    return call


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    parts: dict[str, Callable[..., None]] = {"make": make, "files": files, "array": array}
    parts[word](*map(Path, rest))
