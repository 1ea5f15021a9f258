"""The same figures as `surface-distance` and `monai`, run in the interpreter that has them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.records.metrics import Scoring
from autoseg.stages.evaluating import evaluate_folder
from tests.stages.evaluating.six_masks import PAIRS

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "peer_scoring.py"
Figures = dict[str, dict[str, float]]


def write(folder: Path, name: str, truth: np.ndarray, prediction: np.ndarray, mm: tuple[float, float, float]) -> None:
    for where, array in (("truth", truth), ("predicted", prediction)):
        (folder / where).mkdir(exist_ok=True)
        image = nibabel.Nifti1Image(array.astype(np.uint8), np.diag([*mm, 1.0]))
        nibabel.save(image, folder / where / f"{name}.nii.gz")


def compared(folder: Path) -> tuple[Figures, dict[str, Figures]]:
    """Return our figures and those of each peer."""
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has surface-distance and monai")
    done = subprocess.run([peers, SCRIPT, folder], check=False, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    scoring = Scoring(tolerance_mm=1.0)
    found = evaluate_folder(folder / "predicted", folder / "truth", scoring=scoring, workers=1)
    own = {f"{score.case}/{item.structure}": item.figures() for score in found.scores for item in score.structures}
    return own, {peer: content["figures"] for peer, content in json.loads(done.stdout).items()}


def check(own: Figures, theirs: dict[str, Figures], *, voxel_mm: float) -> None:
    assert own
    for key, row in theirs["surface_distance"].items():
        assert {name: own[key][name] for name in row} == pytest.approx(row, abs=1e-6), key
    for key, row in theirs["monai"].items():
        for name in ("dice", "iou", "precision", "recall", "specificity"):
            assert own[key][name] == pytest.approx(row[name], abs=1e-5), (key, name)
        # MONAI measures between border voxels and pools no areas: a voxel either way.
        for name in ("hd95_mm", "assd_mm"):
            assert own[key][name] == pytest.approx(row[name], abs=1.5 * voxel_mm), (key, name)


@pytest.mark.peer
def test_masks_made_by_hand_and_by_chance(tmp_path: Path):
    both_there = [pair for pair in PAIRS.values() if pair[0].any() and pair[1].any()]
    for number, (truth, prediction) in enumerate(both_there):
        other = np.flip(truth, 0) & ~truth, np.flip(prediction, 0) & ~prediction
        second = np.pad(other[0], 12), np.pad(other[1], 12)
        second[0][:3, :3, :3] = second[1][:3, :3, 1:4] = True
        maps = [np.where(b, 2, np.pad(a, 12)) for a, b in zip((truth, prediction), second, strict=True)]
        write(tmp_path, f"hand_{number}", *maps, mm=(1.0, 1.0, 1.0))
    rng = np.random.default_rng(0)
    for number in range(3):
        noise = rng.random((2, 2, 9, 8, 10))
        maps = [np.where(pair[0] > 0.6, 1, np.where(pair[1] > 0.6, 2, 0)) for pair in noise]
        write(tmp_path, f"noise_{number}", *maps, mm=(0.7, 1.2, 3.0))
    check(*compared(tmp_path), voxel_mm=3.0)


@pytest.mark.peer
def test_real_hippocampi_moved_by_a_voxel(tmp_path: Path, real_data: Path):
    for number, file in enumerate(sorted((real_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))[:8]):
        truth = np.asarray(nibabel.load(file).dataobj).round()
        write(tmp_path, f"head_{number}", truth, np.roll(truth, 1, axis=number % 3), mm=(1.0, 1.0, 1.0))
    check(*compared(tmp_path), voxel_mm=1.0)
