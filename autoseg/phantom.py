"""Small heads with CT and MR contrast in the very layout of HaN-Seg, for the demo and for tests.

Every head is a different one: size, pose, organ sizes, noise and the MR's bias field are drawn from a generator that
is keyed by (seed, number), so the same call writes the same files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoseg.images.files import write_volume
from autoseg.records.geometry import Grid

# Centre and half axes along (z, y, x) in mm from the middle of the head; +x is the patient's left, +y the back, +z up.
ORGANS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "Brainstem": ((-2, 14, 0), (15, 8, 8)),
    "Bone_Mandible": ((-24, -8, 0), (6, 26, 22)),
    "Eye_L": ((10, -26, 14), (7, 7, 7)),
    "Eye_R": ((10, -26, -14), (7, 7, 7)),
    "Parotid_L": ((-10, 4, 29), (12, 10, 6)),
    "Parotid_R": ((-10, 4, -29), (12, 10, 6)),
}
HEAD_MM = (40.0, 44.0, 38.0)
CT_HU = {"Brainstem": 60, "Bone_Mandible": 620, "Eye_L": 8, "Eye_R": 8, "Parotid_L": -45, "Parotid_R": -45}
MR_T1 = {"Brainstem": 540, "Bone_Mandible": 60, "Eye_L": 160, "Eye_R": 160, "Parotid_L": 760, "Parotid_R": 760}
MISSING = {4: "Eye_L"}


def write_phantom(folder: Path, *, cases: int = 12, unseen: int = 2, seed: int = 0) -> None:
    """Write `cases` heads as `folder/set_1/case_XX` and `unseen` more as `folder/unseen` with `folder/unseen_truth`.

    Case 4 has no file for the left eye: it was not annotated there, although it is in the image. The MR lies on a
    grid of its own. The label maps in `unseen_truth` number the organs 1 to 6 in alphabetical order.
    """
    for number in range(1, cases + unseen + 1):
        rng = np.random.default_rng([seed, number])
        name = f"case_{number:02d}"
        head = _Head(rng)
        place = folder / "set_1" / name if number <= cases else folder / "unseen" / name
        ct_grid, mr_grid = _grids(rng)
        write_volume(place / f"{name}_IMG_CT.nrrd", head.ct(ct_grid), ct_grid)
        write_volume(place / f"{name}_IMG_MR_T1.nrrd", head.mr(mr_grid), mr_grid)
        masks = head.organs(ct_grid)
        if number <= cases:
            for organ, mask in masks.items():
                if MISSING.get(number) != organ:
                    write_volume(place / f"{name}_OAR_{organ}.seg.nrrd", mask.astype(np.uint8), ct_grid)
        else:
            truth = np.zeros(ct_grid.shape, np.uint8)
            for value, organ in enumerate(sorted(masks, key=str.lower), start=1):
                truth[masks[organ]] = value
            write_volume(folder / "unseen_truth" / f"{name}.nii.gz", truth, ct_grid)


def _grids(rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Return the CT's grid and the MR's: other spacing, another field of view, a little shifted."""
    ct = Grid(shape=(24, 48, 40), spacing_mm=(3.6, 2.0, 2.0), origin_mm=(-39.0, -47.0, -41.4))
    shift = rng.uniform(-3, 3, 3)
    origin = (float(-42 + shift[0]), float(-49 + shift[1]), float(-44 + shift[2]))
    mr = Grid(shape=(23, 44, 38), spacing_mm=(4.0, 2.3, 2.3), origin_mm=origin)
    return ct, mr


class _Head:
    """One head: its organs as ellipsoids in a frame that is turned, scaled and shifted a little."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.scale = rng.uniform(0.92, 1.06)
        self.shift = rng.uniform(-2.5, 2.5, 3)
        self.angle = np.deg2rad(rng.uniform(-8, 8))
        self.centres = {name: np.add(at, rng.uniform(-1.5, 1.5, 3)) for name, (at, _) in ORGANS.items()}
        self.sizes = {name: np.multiply(half, rng.uniform(0.88, 1.14, 3)) for name, (_, half) in ORGANS.items()}

    def _frame(self, grid: Grid) -> np.ndarray:
        """Return (3, Z, Y, X): where each voxel lies in the head's own frame, in mm along (z, y, x)."""
        index = np.indices(grid.shape, dtype=np.float64).reshape(3, -1)
        world = grid.affine()[:3, :3] @ index + grid.affine()[:3, 3:]
        z, y, x = (world[::-1] - self.shift[:, None]) / self.scale
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([z, cos * y - sin * x, sin * y + cos * x]).reshape(3, *grid.shape)

    def organs(self, grid: Grid) -> dict[str, np.ndarray]:
        """Return organ -> bool (Z, Y, X)."""
        frame = self._frame(grid)
        masks = {}
        for name in ORGANS:
            at = (frame - self.centres[name][:, None, None, None]) / self.sizes[name][:, None, None, None]
            radius = np.sqrt((at**2).sum(0))
            masks[name] = (radius < 1) if name != "Bone_Mandible" else (radius < 1) & _horseshoe(at)
        return masks

    def ct(self, grid: Grid) -> np.ndarray:
        """Return the CT in HU, int16."""
        values = self._tissue(grid, air=-1000, skin=40, skull=1100, brain=32, organs=CT_HU)
        return np.round(values + self.rng.normal(0, 18, grid.shape)).astype(np.int16)

    def mr(self, grid: Grid) -> np.ndarray:
        """Return the MR in arbitrary units, float32, with noise and a smooth bias field."""
        values = self._tissue(grid, air=5, skin=420, skull=90, brain=640, organs=MR_T1)
        position = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij"))
        slope = self.rng.uniform(-0.25, 0.25, 3)
        bias = np.exp((slope[:, None, None, None] * position).sum(0) + self.rng.uniform(-0.15, 0.15) * position[1] ** 2)
        noise = np.hypot(values * bias + self.rng.normal(0, 22, grid.shape), self.rng.normal(0, 22, grid.shape))
        return (noise * self.rng.uniform(0.7, 1.4)).astype(np.float32)

    def _tissue(self, grid: Grid, *, air: float, skin: float, skull: float, brain: float, organs: dict) -> np.ndarray:
        frame = self._frame(grid)
        radius = np.sqrt(((frame / np.reshape(HEAD_MM, (3, 1, 1, 1))) ** 2).sum(0))
        values = np.where(radius < 1, skin, air).astype(np.float64)
        above = frame[0] > -4
        values[(radius < 0.86) & above] = skull
        values[(radius < 0.78) & above] = brain
        for name, mask in self.organs(grid).items():
            values[mask] = organs[name]
        return values


def _horseshoe(at: np.ndarray) -> np.ndarray:
    """Return the front rim of an ellipsoid: the mandible is a horseshoe that opens to the back."""
    return (np.hypot(at[1], at[2]) > 0.72) & (at[1] < 0.55)
