"""Scoring of 200 hippocampus cases: seconds of `autoseg evaluate`, and of the figures that peers compute as well.

    python benchmarks/scoring.py --data ../shared/data/Task04_Hippocampus --peers /path/to/env/bin/python

The predictions are the labels themselves, moved by a voxel along an axis and with a twentieth of the voxels near their
surface turned, both drawn with a seed keyed by the case. `evaluate` is measured as a whole command, with the usual
figures and with all. `--peers` names an interpreter with `surface-distance` and `monai`: Dice, IoU, precision, recall,
HD95, surface Dice and the mean distance are then computed there and here, in one process each, without imports.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from autoseg.records.metrics import Scoring
from autoseg.stages.evaluating import evaluate_folder


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data/Task04_Hippocampus"))
    words.add_argument("--peers", type=Path)
    words.add_argument("--cases", type=int, default=200)
    given = words.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_pairs(given.data.resolve() / "labelsTr", place, given.cases)
        result: dict[str, object] = {"cases": len(list((place / "truth").iterdir()))}
        result["evaluate_seconds"] = command_seconds(place)
        result["evaluate_all_seconds"] = command_seconds(place, "--metrics", "all")
        result["own_seconds"], own = own_figures(place)
        if given.peers:
            peers = Path(__file__).with_name("peer_scoring.py")
            said = subprocess.run([given.peers, peers, place], check=True, capture_output=True, text=True).stdout
            result |= beside(own, json.loads(said))
    print(json.dumps(result, indent=1))


def write_pairs(labels: Path, folder: Path, count: int) -> None:
    """Write truths and perturbed predictions as NIfTI."""
    for name in ("truth", "predicted"):
        (folder / name).mkdir()
    for file in sorted(labels.glob("*.nii.gz"))[:count]:
        image = nibabel.Nifti1Image.from_filename(file)
        truth = np.asarray(image.dataobj).round().astype(np.uint8)
        for name, array in (("truth", truth), ("predicted", perturbed(truth, file.name))):
            nibabel.save(nibabel.Nifti1Image(array, image.affine), folder / name / file.name)


def perturbed(truth: np.ndarray, key: str) -> np.ndarray:
    """Return the labels moved by a voxel, with some of the voxels near their surface turned."""
    rng = np.random.default_rng([0, zlib.crc32(key.encode())])
    moved = np.roll(truth, rng.choice([-1, 1]), axis=rng.integers(3))
    near = binary_dilation(moved > 0) & ~binary_erosion(moved > 0) & (rng.random(truth.shape) < 0.05)
    return np.where(near, rng.integers(0, 3, truth.shape), moved).astype(np.uint8)


def command_seconds(folder: Path, *more: str) -> float:
    """Return the wall time of the whole command."""
    places = {"-p": folder / "predicted", "-t": folder / "truth", "-o": folder / "scores.csv"}
    words = [*(str(word) for pair in places.items() for word in pair), *more]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "autoseg", "evaluate", *words], check=True, capture_output=True, env=environment
    )
    return round(time.perf_counter() - start, 2)


def own_figures(folder: Path) -> tuple[float, dict[str, dict[str, float]]]:
    """Return the seconds of the figures that peers compute too, reading included, and case/structure -> figures."""
    start = time.perf_counter()
    found = evaluate_folder(folder / "predicted", folder / "truth", scoring=Scoring(tolerance_mm=1.0), workers=1)
    seconds = round(time.perf_counter() - start, 2)
    rows = {f"{score.case}/{item.structure}": item.figures() for score in found.scores for item in score.structures}
    return seconds, rows


def beside(own: dict[str, dict[str, float]], theirs: dict[str, object]) -> dict[str, object]:
    """Return the peers' seconds, and the greatest difference of each figure over all cases and structures."""
    result: dict[str, object] = {}
    for peer, content in theirs.items():
        rows = content["figures"]  # type: ignore[index]
        names = next(iter(rows.values()))
        result[f"{peer}_seconds"] = content["seconds"]  # type: ignore[index]
        result[f"{peer}_greatest_difference"] = {
            name: float(np.nanmax([abs(own[key][name] - row[name]) for key, row in rows.items()])) for name in names
        }
    return result


if __name__ == "__main__":
    main()
