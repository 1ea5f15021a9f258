"""Fingerprint, plan and preprocessing of hippocampus in 2D and 3D: autoseg beside nnU-Net, in one run.

    python benchmarks/against_nnunet.py --data ../shared/data/Task04_Hippocampus --peers /path/to/env/bin

`--peers` is the `bin` folder of an environment with `nnunetv2`. Both programs start from nothing; nnU-Net gets a
process a core, autoseg chooses for itself; both are measured as whole commands in turn; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--peers", type=Path, required=True)
    words.add_argument("--runs", type=int, default=2)
    words.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        raw = write_nnunet_raw(given.data.resolve(), place / "raw")
        ours, theirs = [], []
        for run in range(given.runs):
            theirs.append(time_nnunet(place / f"nnunet_{run}", raw, given.peers, given.processes))
            ours.append(time_autoseg(place / f"autoseg_{run}", given.data.resolve()))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(json.dumps({"autoseg_seconds": ours, "nnunet_seconds": theirs, "ratio": ratios}, indent=1))


def write_nnunet_raw(source: Path, folder: Path) -> Path:
    """Lay the cases out as nnU-Net wants them, by links, outside of the measured time."""
    target = folder / "Dataset004_Hippocampus"
    description = json.loads((source / "dataset.json").read_text())
    (target / "imagesTr").mkdir(parents=True)
    (target / "labelsTr").mkdir()
    for item in description["training"]:
        name = Path(item["image"]).name.removesuffix(".nii.gz")
        (target / "imagesTr" / f"{name}_0000.nii.gz").symlink_to((source / item["image"]).resolve())
        (target / "labelsTr" / f"{name}.nii.gz").symlink_to((source / item["label"]).resolve())
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(description["training"]),
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(content))
    return folder


def time_nnunet(folder: Path, raw: Path, peers: Path, processes: int) -> float:
    environment = os.environ | {
        "nnUNet_raw": str(raw),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(peers / "nnUNetv2_plan_and_preprocess"), "-d", "4", "-c", "2d", "3d_fullres", "--clean"]
    command += ["-npfp", str(processes), "-np", str(processes), str(processes)]
    return timed(command, environment)


def time_autoseg(folder: Path, data: Path) -> float:
    root = ["--root", str(folder)]
    program = shutil.which("autoseg") or str(Path(sys.executable).with_name("autoseg"))
    # The import is no part of what nnU-Net's command does: its data set was laid out beforehand as well.
    timed([program, "import", str(data), "--as", "Hippocampus", "--groups", "(id+1)//2", *root], dict(os.environ))
    command = [program, "plan_and_preprocess", "-d", "Hippocampus", *root]
    return timed(command, dict(os.environ))


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return seconds


if __name__ == "__main__":
    main()
