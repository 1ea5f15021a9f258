"""A known rigid motion of 10 mm and 5 degrees of a real volume: how much of it the registration leaves.

    python benchmarks/registration.py FOLDER [--coarse 2]     # every patient folder with two channels below it

Of each patient one channel is moved by an axis and a direction of its own, and registered onto another contrast at its
place. A row says how far the centre, the angle and the worst corner of the field are off afterwards, in mm and degrees;
`--contrast inverted` registers a nonlinear inversion of the same channel instead, for scans of one channel.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from autoseg.images import files, foreground, register
from autoseg.records.geometry import Grid

SHIFT_MM, TURN_DEGREES = 10.0, 5.0
Volume = tuple[np.ndarray, Grid]


def rigid(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return a (4, 4) motion: a turn around a random axis through the field's centre, and a shift in a random way."""
    axis, way = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    angle = np.deg2rad(TURN_DEGREES)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    centre = (grid.affine() @ (*(np.array(grid.shape) - 1) / 2, 1))[:3]
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre - turn @ centre + SHIFT_MM * way
    return motion


def moved(grid: Grid, motion: np.ndarray) -> Grid:
    """Return a grid that was moved as a whole: the same voxels, said to lie elsewhere."""
    origin = tuple((motion @ (*grid.origin_mm, 1))[:3].tolist())
    rows = tuple(tuple(row) for row in (motion[:3, :3] @ np.asarray(grid.direction)).tolist())
    return grid.model_copy(update={"origin_mm": origin, "direction": rows})


def coarser(volume: Volume, factor: int) -> Volume:
    """Return a volume of means of factor^3 voxels."""
    array, grid = volume
    shape = tuple(size // factor for size in array.shape)
    array = array[tuple(slice(0, factor * size) for size in shape)]
    blocks = array.reshape([part for size in shape for part in (size, factor)])
    origin = tuple((grid.affine() @ (*[(factor - 1) / 2] * 3, 1))[:3].tolist())
    spacing = tuple(factor * step for step in grid.spacing_mm)
    return blocks.mean((1, 3, 5)), Grid(shape=shape, spacing_mm=spacing, origin_mm=origin, direction=grid.direction)


def inverted(array: np.ndarray) -> np.ndarray:
    """Return what another contrast might show: bright is dark, and not in proportion; air stays dark."""
    top = float(np.percentile(array, 99.5))
    part = np.clip(array / top, 0, 1)
    return np.where(part > 0.08, 1 - np.sqrt(part), 0.0).astype(np.float32)


def pairs(folder: Path, contrast: str, coarse: int) -> Iterator[tuple[str, Volume, np.ndarray]]:
    """Yield name, fixed volume, and the voxels of the moving one on the same grid."""
    for place in sorted({path.parent for path in folder.rglob("*.nii.gz")}):
        paths = [path for path in sorted(place.glob("*.nii.gz")) if "lesion" not in path.name]
        fixed = coarser(read(paths[0]), coarse)
        if contrast == "inverted":
            yield f"{place.name}/{paths[0].name} inverted", fixed, inverted(fixed[0])
            continue
        for path in paths[1:]:
            other = coarser(read(path), coarse)
            if fixed[1].difference(other[1]) is None:
                yield f"{place.name}/{path.name} onto {paths[0].name}", fixed, other[0]


def read(path: Path) -> Volume:
    """Return a volume as float32."""
    array, grid = files.read_volume(path)
    return np.asarray(array, np.float32), grid


def main(words: Sequence[str]) -> int:
    """Print a row a pair; the exit code is 1 where the centre is off by 1 mm or the angle by 0.5 degrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--contrast", choices=("channels", "inverted"), default="channels")
    parser.add_argument("--coarse", type=int, default=1, help="means of so many voxels along each axis")
    said = parser.parse_args(words)
    bad = False
    for number, (name, (fixed, grid), moving) in enumerate(pairs(said.folder, said.contrast, said.coarse)):
        truth = rigid(grid, np.random.default_rng(number))
        mask = foreground.body_mask(fixed, grid, kind="mr", dilate_mm=register.RIM_MM)
        start = time.perf_counter()
        found = register.register_rigid(moving, moved(grid, truth), fixed, grid, mask=mask)
        seconds = time.perf_counter() - start
        error = np.linalg.inv(truth) @ found.matrix
        centre, turn = register.shift_mm(error, grid), register.turn_degrees(error)
        corner = register.corner_shift_mm(error, grid)
        bad |= centre >= 1.0 or turn >= 0.5
        row = f"{name}: centre {centre:.2f} mm, turn {turn:.2f} degrees, worst corner {corner:.2f} mm, {seconds:.1f} s"
        sys.stdout.write(f"{row}\n")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
