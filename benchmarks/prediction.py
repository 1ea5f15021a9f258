"""Prediction beside nnU-Net: time and peak memory of a process each, networks of one topology and the same weights.

    python benchmarks/prediction.py PART --data ../shared/data --peers /env/bin/python

- `export`: both get random logits of 62 classes on the grid of a CT at 3 mm and give labels at half its spacing; the
  time starts with the logits in memory.
- `large`: a CT of 512x512x300 voxels of 0.8x0.8x1 mm, 117 structures, planned at 1.5 mm, no mirroring, in bfloat16.
  nnU-Net gets the middle third along each axis; its network is scaled by windows, the rest by voxels.
- `hippocampus`: 60 cases from files to files, the same windows, 8 mirrors.
- `latency`: a head of 182x218x182 mm by a warm server, from its file to the label map; nnU-Net's predictor in memory.

Peak memory is the whole process, its libraries included. `--shrink` and `--cases` make a trial of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nnunet_model import PEER_SCRIPT, Run, make_model, run
from scipy import ndimage

from autoseg.images.files import read_header, read_volume, write_volume
from autoseg.networks.patches import window_starts
from autoseg.records.geometry import Grid

WAY_HOME = Path(__file__).with_name("way_home.py")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("part", choices=["export", "large", "hippocampus", "latency"])
    words.add_argument("--data", type=Path, default=Path("../shared/data"))
    words.add_argument("--peers", required=True, help="An interpreter that has nnunetv2.")
    words.add_argument("--classes", type=int, default=None, help="export: 62; large: 118, background included.")
    words.add_argument("--cases", type=int, default=60, help="hippocampus: how many.")
    words.add_argument("--shrink", type=float, default=1.0, help="large, latency: of the scan's axes, for a trial.")
    words.add_argument("--memory-gb", type=float, default=2.6, help="large: given to `autoseg predict`.")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.part == "export":
            ct = given.data / "totalsegmentator/s0001/ct.nii.gz"
            found = measure_export(ct, given.peers, given.classes or 62)
        elif given.part == "large":
            found = measure_large(folder, given.data, given.peers, classes=given.classes or 118,
                                  shrink=given.shrink, memory_gb=given.memory_gb)  # fmt: skip
        elif given.part == "hippocampus":
            found = measure_hippocampus(folder, given.data, given.peers, cases=given.cases)
        else:
            found = measure_latency(folder, given.peers, shrink=given.shrink)
    print(json.dumps(found, indent=1))


def measure_large(
    folder: Path, data: Path, peers: str, *, classes: int, shrink: float, memory_gb: float
) -> dict[str, object]:
    """Return what a CT of 512x512x300 voxels takes in autoseg, and a third along each axis in nnU-Net, scaled."""
    model = make_model(folder, peers, patch=(128, 128, 128), features=(4, 8, 16, 16, 16), classes=classes,
                       spacing_mm=1.5, ct=True)  # fmt: skip
    shape = tuple(round(size / shrink) for size in (300, 512, 512))
    scans, out = folder / "scans", folder / "out"
    write_ct(scans / "ct.nii.gz", data, shape)
    part = tuple(size // 3 for size in shape)
    write_ct(folder / "part.nii.gz", data, shape, part)
    ours = run(sys.executable, "-m", "autoseg", "predict", "-m", model.file, "-i", scans, "-o", out,
               "--memory-gb", str(memory_gb), "--precision", "bfloat16")  # fmt: skip
    theirs = told(run(peers, PEER_SCRIPT, "array", model.folder, folder / "part.nii.gz", folder / "part.npy"))
    windows = [count_large(item) for item in (shape, part)]
    export = (theirs["seconds"] - theirs["network"]) * math.prod(shape) / math.prod(part)
    scaled = theirs["network"] * windows[0] / windows[1] + export
    return {
        "shape": shape,
        "classes": classes,
        "autoseg": ours.figures(),
        "said_before": [line for line in ours.told.splitlines() if "about" in line or "tiles" in line],
        "nnunet_shape": part,
        "nnunet_part": theirs,
        "windows": windows,
        "nnunet_scaled": round(scaled, 1),
        "times_faster": round(scaled / ours.seconds, 2),
    }


def count_large(shape: tuple[int, ...]) -> int:
    """Return the windows of 128 voxels at 1.5 mm that both programs compute for a scan of 1x0.8x0.8 mm."""
    grid = [round(size * mm / 1.5) for size, mm in zip(shape, (1.0, 0.8, 0.8))]
    return math.prod(len(window_starts(max(size, 128), 128, 0.5)) for size in grid)


def measure_hippocampus(folder: Path, data: Path, peers: str, *, cases: int) -> dict[str, object]:
    """Return the wall time of both programs for a folder of scans, 8 mirrors each, loading and writing included."""
    model = make_model(folder, peers, patch=(40, 56, 40), features=(32, 64, 128, 256), classes=3, spacing_mm=1.0,
                       ct=False, mirror_axes=(0, 1, 2))  # fmt: skip
    scans = folder / "scans"
    scans.mkdir()
    for path in sorted((data / "Task04_Hippocampus/imagesTr").glob("hippocampus_*.nii.gz"))[:cases]:
        shutil.copy(path, scans / path.name.replace(".nii.gz", "_0000.nii.gz"))
    theirs = run(peers, PEER_SCRIPT, "files", model.folder, scans, folder / "theirs")
    found: dict[str, object] = {"cases": len(list(scans.iterdir())), "nnunet": theirs.figures()}
    for precision in ("float32", "bfloat16"):
        out = folder / precision
        ours = run(sys.executable, "-m", "autoseg", "predict", "-m", model.file, "-i", scans, "-o", out,
                   "--precision", precision)  # fmt: skip
        same = [same_voxels(path, out) for path in sorted((folder / "theirs").glob("*.nii.gz"))]
        faster = round(theirs.seconds / ours.seconds, 2)
        found[precision] = ours.figures() | {"times_faster": faster, "same_voxels": round(sum(same) / len(same), 5)}
    return found


def measure_latency(folder: Path, peers: str, *, shrink: float) -> dict[str, object]:
    """Return seconds that a warm server takes for a 1 mm head MR, and nnU-Net's predictor, after a small scan each."""
    model = make_model(folder, peers, patch=(128, 128, 128), features=(8, 16, 32, 64, 64), classes=30, spacing_mm=1.0,
                       ct=False)  # fmt: skip
    scan = folder / "head.nii.gz"
    write_head(scan, tuple(round(size / shrink) for size in (182, 218, 182)))
    small = folder / "small.nii.gz"
    write_head(small, (32, 32, 32))
    labels = folder / "ours.nii.gz"
    with serving(model.file) as address:
        seconds = [post(f"{address}/predict?name=head.nii.gz", path, labels) for path in (small, scan)]
    theirs = told(run(peers, PEER_SCRIPT, "array", model.folder, scan, folder / "theirs.npy"))
    same = float(np.mean(read_labels(labels) == np.load(folder / "theirs.npy")))
    return {"server_seconds": round(seconds[-1], 2), "nnunet_in_memory": theirs, "same_voxels": round(same, 5)}


def measure_export(ct: Path, peers: str, classes: int) -> dict[str, object]:
    """Return seconds and peak GB of both programs, their ratios, and how many voxels got the same label."""
    grid = read_header(ct).grid
    with tempfile.TemporaryDirectory() as folder:
        logits = Path(folder) / "logits.npy"
        drawn = np.random.default_rng(0).standard_normal((classes, *grid.shape), dtype=np.float32)
        np.save(logits, drawn)
        del drawn
        spacing = json.dumps([size / 2 for size in grid.spacing_mm])
        results = [Path(folder) / f"{name}.npy" for name in ("ours", "theirs")]
        ours = told(run(sys.executable, WAY_HOME, "autoseg", logits, spacing, results[0]))
        theirs = told(run(peers, WAY_HOME, "nnunet", logits, spacing, results[1]))
        same = float(np.mean(np.load(results[0]) == np.load(results[1])))
    return {
        "autoseg": ours,
        "nnunet": theirs,
        "times_faster": round(theirs["seconds"] / ours["seconds"], 2),
        "share_of_memory": round(ours["peak_gb"] / theirs["peak_gb"], 3),
        "same_voxels": same,
    }


def told(done: Run) -> dict[str, float]:
    """Return the JSON that a process printed last."""
    found: dict[str, float] = json.loads(done.told.splitlines()[-1])
    return found


def write_ct(path: Path, data: Path, shape: tuple[int, ...], part: tuple[int, ...] | None = None) -> None:
    """Write a real CT stretched to `shape` at 1x0.8x0.8 mm, or the middle `part` of it."""
    array = read_volume(data / "totalsegmentator/s0001/ct.nii.gz")[0].astype(np.float32)
    large = ndimage.zoom(array, np.divide(shape, array.shape), order=1).astype(np.int16)
    if part is not None:
        start = [(whole - size) // 2 for whole, size in zip(shape, part)]
        large = large[tuple(slice(first, first + size) for first, size in zip(start, part))]
    path.parent.mkdir(exist_ok=True)
    write_volume(path, large, Grid(shape=large.shape, spacing_mm=(1.0, 0.8, 0.8)))


def write_head(path: Path, shape: tuple[int, ...]) -> None:
    """Write a smooth ball with noise: what a network computes does not depend on it."""
    axes = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    ball = np.sqrt(sum(axis**2 for axis in axes)) < 0.9
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    array = ndimage.gaussian_filter(noise, 2) * 300 + 100 * ball + 20
    write_volume(path, array.astype(np.float32), Grid(shape=shape, spacing_mm=(1.0, 1.0, 1.0)))


def read_labels(path: Path) -> np.ndarray:
    """Return a label map, (Z, Y, X)."""
    return read_volume(path)[0]


def same_voxels(theirs: Path, folder: Path) -> float:
    """Return the share of voxels in which two label maps agree."""
    name = theirs.name if (folder / theirs.name).exists() else theirs.name.replace(".nii.gz", "_0000.nii.gz")
    return float(np.mean(read_labels(theirs) == read_labels(folder / name)))


@contextlib.contextmanager
def serving(model: Path) -> Iterator[str]:
    """Run a server of its own while the block runs, and give its address."""
    command = [sys.executable, "-m", "autoseg", "serve", "-m", str(model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "http://" in line)
        yield "http://" + line.split("http://", 1)[1].split()[0].strip("/.,")
    finally:
        process.terminate()
        process.wait()


def post(address: str, scan: Path, target: Path) -> float:
    """Send a scan, keep the label map, and return the seconds that it took."""
    started = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(address, data=scan.read_bytes()), timeout=600) as answer:
        target.write_bytes(answer.read())
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
