"""A piece of `prediction.py export`, in a process of its own: logits become labels on a grid twice as fine.

    python benchmarks/way_home.py autoseg|nnunet LOGITS SPACING RESULT

LOGITS is float32 (K, Z, Y, X) as `.npy`, SPACING that of the labels in mm as JSON. Prints the seconds from logits in
memory to labels in memory, and the peak of the whole process.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch


def main() -> None:
    program, logits, spacing_mm, result = sys.argv[1:]
    take_home = {"autoseg": by_autoseg, "nnunet": by_nnunet}[program]
    labels, seconds = take_home(np.load(logits), json.loads(spacing_mm))
    np.save(result, labels)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": round(seconds, 3), "peak_gb": round(peak_gb, 3), "threads": torch.get_num_threads()}))


def by_autoseg(logits: np.ndarray, spacing_mm: list[float]) -> tuple[np.ndarray, float]:
    """Return (Z, Y, X) labels, and seconds."""
    from autoseg.images.fields import Field
    from autoseg.images.home import home
    from autoseg.records.geometry import Box, Grid
    from autoseg.records.volumes import Passage

    z, y, x = logits.shape[1:]
    shape = (2 * z, 2 * y, 2 * x)
    near, middle, far = spacing_mm
    fine = Grid(shape=shape, spacing_mm=(near, middle, far))
    coarse = Grid(shape=(z, y, x), spacing_mm=(2 * near, 2 * middle, 2 * far))
    way = Passage(original=fine, oriented=fine, crop=Box(start=(0, 0, 0), stop=shape), network=coarse)
    started = time.perf_counter()
    labels = home([Field(logits, way)], output="softmax")
    return labels, time.perf_counter() - started


def by_nnunet(logits: np.ndarray, spacing_mm: list[float]) -> tuple[np.ndarray, float]:
    """Return (Z, Y, X) labels, and seconds."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    shape = tuple(2 * size for size in logits.shape[1:])
    plans = PlansManager(nnunet_plans([2 * size for size in spacing_mm]))
    names = {"background": 0, **{str(value): value for value in range(1, len(logits))}}
    manager = plans.get_label_manager({"labels": names, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"})
    properties = {
        "spacing": spacing_mm,
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
    }
    configuration = plans.get_configuration("3d_fullres")
    started = time.perf_counter()
    labels = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, manager, properties
    )
    return np.asarray(labels), time.perf_counter() - started


def nnunet_plans(spacing_mm: list[float]) -> dict[str, object]:
    """Return as much of nnU-Net's plans as its way home reads."""
    configuration = {
        "spacing": spacing_mm,
        "architecture": {"network_class_name": "any", "arch_kwargs": {}, "_kw_requires_import": []},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
    }
    return {
        "dataset_name": "Dataset001_Any",
        "plans_name": "any",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }


if __name__ == "__main__":
    main()
