"""Export of many classes to a finer grid: autoseg beside nnU-Net, time and peak memory of a process each.

    python benchmarks/prediction.py export --ct ../shared/data/totalsegmentator/s0001/ct.nii.gz --peers /env/bin/python

Both get the same random logits of 62 classes on the grid of a CT at 3 mm and give labels at half its spacing; the
time starts with the logits in memory. Peak memory is the whole process, its libraries included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = """
import json, resource, sys, time
import numpy as np, torch
from autoseg.images.home import Field, home
from autoseg.records.geometry import Box, Grid
from autoseg.records.volumes import Passage
logits, spacing = np.load(sys.argv[1]), json.loads(sys.argv[2])
shape = tuple(2 * size for size in logits.shape[1:])
fine = Grid(shape=shape, spacing_mm=tuple(spacing))
coarse = Grid(shape=logits.shape[1:], spacing_mm=tuple(2 * size for size in spacing))
way = Passage(original=fine, oriented=fine, crop=Box(start=(0, 0, 0), stop=shape), network=coarse)
started = time.perf_counter()
labels = home([Field(logits, way)], output="softmax")
"""

THEIRS = """
import json, resource, sys, time
import numpy as np, torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as convert
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
logits, spacing = np.load(sys.argv[1]), json.loads(sys.argv[2])
shape = tuple(2 * size for size in logits.shape[1:])
configuration = {
    "spacing": [2 * size for size in spacing],
    "architecture": {"network_class_name": "any", "arch_kwargs": {}, "_kw_requires_import": []},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}
plans = PlansManager({
    "dataset_name": "Dataset001_Any", "plans_name": "any", "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2], "label_manager": "LabelManager", "configurations": {"3d_fullres": configuration},
})
names = {"background": 0, **{str(value): value for value in range(1, len(logits))}}
manager = plans.get_label_manager({"labels": names, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"})
properties = {
    "spacing": spacing, "shape_before_cropping": shape, "shape_after_cropping_and_before_resampling": shape,
    "bbox_used_for_cropping": [[0, size] for size in shape],
}
started = time.perf_counter()
labels = convert(logits, plans, plans.get_configuration("3d_fullres"), manager, properties)
"""

TOLD = """
seconds = time.perf_counter() - started
np.save(sys.argv[3], np.asarray(labels))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": round(seconds, 3), "peak_gb": round(peak, 3)}))
"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("part", choices=["export"])
    words.add_argument("--ct", type=Path, default=Path("../shared/data/totalsegmentator/s0001/ct.nii.gz"))
    words.add_argument("--peers", required=True, help="An interpreter that has nnunetv2.")
    words.add_argument("--classes", type=int, default=62)
    given = words.parse_args()
    print(json.dumps(measure_export(given.ct, given.peers, given.classes), indent=1))


def measure_export(ct: Path, peers: str, classes: int) -> dict[str, object]:
    """Return seconds and peak GB of both programs, their ratios, and how many voxels got the same label."""
    import numpy as np

    from autoseg.images.files import read_header

    grid = read_header(ct).grid
    with tempfile.TemporaryDirectory() as folder:
        logits = Path(folder) / "logits.npy"
        drawn = np.random.default_rng(0).standard_normal((classes, *grid.shape), dtype=np.float32)
        np.save(logits, drawn)
        del drawn
        spacing = json.dumps([size / 2 for size in grid.spacing_mm])
        results = [Path(folder) / f"{name}.npy" for name in ("ours", "theirs")]
        ours = run(sys.executable, OURS, str(logits), spacing, str(results[0]))
        theirs = run(peers, THEIRS, str(logits), spacing, str(results[1]))
        same = float(np.mean(np.load(results[0]) == np.load(results[1])))
    return {
        "autoseg": ours,
        "nnunet": theirs,
        "times_faster": round(theirs["seconds"] / ours["seconds"], 2),
        "share_of_memory": round(ours["peak_gb"] / theirs["peak_gb"], 3),
        "same_voxels": same,
    }


def run(python: str, script: str, *words: str) -> dict[str, float]:
    """Run a script in a process of its own and return what it tells."""
    done = subprocess.run([python, "-c", script + TOLD, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
