"""How long the bias field correction takes, and what it leaves of a simulated bias field of 40 %.

    python benchmarks/n4.py FOLDER            # every T1.nii.gz, FLAIR.nii.gz ... below it

Each volume is cut or padded to 160 x 160 x 160 voxels, multiplied by a smooth field that varies by 40 % (1st to 99th
percentile where there is signal), and corrected; what is left is how much corrected / original varies there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.images import files
from autoseg.images.bias_field import correct_bias
from autoseg.records.geometry import Grid

SIZE = 160
STRENGTH = 1.4
SIGNAL_FRACTION = 0.3  # of the brightest half percent


def cube(array: np.ndarray) -> np.ndarray:
    """Return the middle SIZE voxels along each axis, zeros where there are fewer."""
    for axis, size in enumerate(array.shape):
        start = max(0, (size - SIZE) // 2)
        array = np.take(array, range(start, min(size, start + SIZE)), axis=axis)
    pads = [((SIZE - size) // 2, SIZE - size - (SIZE - size) // 2) for size in array.shape]
    return np.pad(array.astype(np.float32), pads)


def shading(inside: np.ndarray) -> np.ndarray:
    """Return a smooth field as of a coil beside the head, that varies by 40 % where there is signal."""
    z, y, x = (np.linspace(-1, 1, SIZE) for _ in range(3))
    field = np.sin(1.6 * x + 0.4)[None, None] * np.cos(1.2 * y)[None, :, None] + 0.4 * z[:, None, None]
    low, high = np.percentile(field[inside], (1, 99))
    return np.asarray(np.exp(np.log(STRENGTH) * (field - low) / (high - low)), np.float32)


def spread(values: np.ndarray) -> float:
    """Return by what fraction values vary, from the 1st to the 99th percentile."""
    low, high = np.percentile(values, (1, 99))
    return float(high / low - 1)


def measure(file: Path) -> tuple[float, float, float, float]:
    """Return seconds, seconds of a processor, and how much the field varied before and after."""
    array, grid = files.read_volume(file)
    array = cube(np.asarray(array))
    inside = array > SIGNAL_FRACTION * np.percentile(array, 99.5)
    field = shading(inside)
    start, busy = time.perf_counter(), time.process_time()
    corrected, _ = correct_bias(array * field, Grid(shape=(SIZE,) * 3, spacing_mm=grid.spacing_mm))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return seconds, busy, spread(field[inside]), spread(corrected[inside] / array[inside])


def main(words: Sequence[str]) -> None:
    """Print a row a volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for file in sorted(parser.parse_args(words).folder.rglob("*.nii.gz")):
        if "lesion" in file.name:
            continue
        seconds, busy, before, after = measure(file)
        took = f"{seconds:.2f} s ({busy:.2f} s of a processor)"
        sys.stdout.write(f"{file.parent.name}/{file.name}: {took}, {before:.1%} -> {after:.1%}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
