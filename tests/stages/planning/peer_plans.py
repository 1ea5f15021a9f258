"""Run by the peers' interpreter: nnU-Net's own planner on fingerprints written by hand; see test_peer_plans.py."""

import json
import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
os.environ |= {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner  # noqa: E402
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (  # noqa: E402
    residual_encoder_unet_planners as residual,
)


class Imageless:
    """A planner without the images that it would only ask for their suffix."""

    def determine_reader_writer(self):
        return ExperimentPlanner

    def save_plans(self, plans):
        self.plans = plans


PLANNERS = {
    "plain": ExperimentPlanner,
    "residual_unet_m": residual.nnUNetPlannerResEncM,
    "residual_unet_l": residual.nnUNetPlannerResEncL,
    "residual_unet_xl": residual.nnUNetPlannerResEncXL,
}


def plan(number, asked):
    name = f"Dataset{number:03}_example"
    labels = {"background": 0} | {f"s{value}": value for value in range(1, asked["structures"] + 1)}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(asked["shapes"]),
        "file_ending": ".nii.gz",
    }
    fingerprint = {
        "spacings": asked["spacings"],
        "shapes_after_crop": asked["shapes"],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {},
    }
    for place, file, content in (
        ("raw", "dataset.json", dataset),
        ("preprocessed", "dataset_fingerprint.json", fingerprint),
    ):
        target = folder / place / name
        target.mkdir(parents=True)
        (target / file).write_text(json.dumps(content))
    (folder / "raw" / name / "imagesTr").mkdir()
    kind = type("Planner", (Imageless, PLANNERS[asked["planner"]]), {})
    planner = kind(name, gpu_memory_target_in_gb=asked["memory_gb"])
    found = planner.plan_experiment()["configurations"]
    return {
        key: {
            "patch": [int(size) for size in item["patch_size"]],
            "batch": int(item["batch_size"]),
            "spacing": [float(value) for value in item["spacing"]],
            "strides": [list(map(int, row)) for row in item["architecture"]["arch_kwargs"]["strides"]],
            "kernels": [list(map(int, row)) for row in item["architecture"]["arch_kwargs"]["kernel_sizes"]],
            "features": [int(count) for count in item["architecture"]["arch_kwargs"]["features_per_stage"]],
        }
        for key, item in found.items()
        if "patch_size" in item
    }


if __name__ == "__main__":
    asked = json.loads((folder / "asked.json").read_text())
    (folder / "found.json").write_text(json.dumps([plan(n, item) for n, item in enumerate(asked, start=1)]))
