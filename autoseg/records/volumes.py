"""Records that hold arrays: images, label maps, and a case as a network sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoseg.records.geometry import Box, Grid
from autoseg.records.likeness import Unlikeness
from autoseg.records.quality import PredictedScore
from autoseg.records.record import Record


@dataclass(frozen=True)
class Image:
    """All channels of one scan on one grid.

    Attributes:
        array: float32, (C, Z, Y, X), finite.
        grid: Where the voxels lie.
        valid: Bool, (C, Z, Y, X): False where a channel was padded outside its own field of view; None when every
            voxel was measured.
        notes: What was done to it or is odd about it, for people.
    """

    array: np.ndarray
    grid: Grid
    valid: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMap:
    """Inside values (0 background, 1..K structures, K + 1 ignored) on one grid; uint8, or int16 when K > 250.

    `notes` says what was done to them, for people.
    """

    array: np.ndarray
    grid: Grid
    notes: tuple[str, ...] = ()


class Passage(Record):
    """The way of a scan to the network's grid; read backwards it brings a prediction home.

    `original` -(axes permuted and flipped)-> `oriented` -(cut to `crop`)-> -(resampled)-> `network`.
    The three grids determine every step: the first is the one signed permutation between two directions, the last
    is a resize of `crop.shape` to `network.shape` with equal outer edges.
    """

    original: Grid
    oriented: Grid
    crop: Box
    network: Grid


@dataclass(frozen=True)
class CaseRegions:
    """Where the windows of a second stage for small lesions lie in a training case; boxes int32 (n, 2, 3).

    A box is its first voxel and the one after its last, (z, y, x) on the network's grid.

    Attributes:
        lesions: Of the truth.
        proposals: Of a first stage that never saw the case.
        rejections: Proposals, of this probability or a lower one, in whose region no voxel of a lesion lies.
    """

    lesions: np.ndarray
    proposals: np.ndarray
    rejections: np.ndarray


@dataclass(frozen=True)
class PreprocessedCase:
    """One case as the network sees it; arrays are NumPy arrays, or blosc2 arrays that read the window asked for.

    Attributes:
        id: The case.
        image: float32, (C, Z, Y, X), normalised, on `passage.network`.
        labels: Inside values, (Z, Y, X), or None in prediction.
        previous: Inside values that the previous stage predicted, (Z, Y, X), or None where there is no such stage.
        passage: The way here and back.
        positions: Inside value -> int32 (n, 3) array of voxel indices (z, y, x) that carry it; a sample of at most
            10,000 a value, drawn with a seed keyed by the case; values without a voxel are missing.
        annotated: Inside values that were annotated in this case (all of 1..K, or fewer).
        regions: Where windows lie, or None where they lie anywhere.
    """

    id: str
    image: Any
    labels: Any
    previous: Any
    passage: Passage
    positions: dict[int, np.ndarray] = field(default_factory=dict)
    annotated: tuple[int, ...] = ()
    regions: CaseRegions | None = None


@dataclass(frozen=True)
class Doubt:
    """How unsure a prediction is.

    Attributes:
        entropy: float32 (Z, Y, X) on the scan's grid: 0 sure, 1 every class as likely as another.
        disagreement: The part of it that comes from folds and members differing, 0 to 1.
        signs: float64 (folds, structures, signs): of `images.signs.signs_of`.
    """

    entropy: np.ndarray
    disagreement: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one scan, in the scan's own geometry.

    Attributes:
        case: Its id.
        labels: Inside values (softmax) or painted region values, on the original grid.
        members: Digest-free names of the models that took part (`ModelId.key()`).
        probabilities: float32 (float16 on disk), (K, Z, Y, X) on the original grid, or None when not asked for.
        regions: Bit k of each voxel says whether region k holds it, unsigned (Z, Y, X); None without regions.
        doubt: How unsure it is, or None when not asked for.
        seconds: Wall time for reading, computing and export.
        quality: The Dice that each structure is thought to have; empty when not asked for, or unknown.
        unlikeness: How unlike the training scans the scan is; None where the model cannot tell.
    """

    case: str
    labels: LabelMap
    members: tuple[str, ...]
    probabilities: np.ndarray | None = None
    regions: np.ndarray | None = None
    doubt: Doubt | None = None
    seconds: float = 0.0
    quality: tuple[PredictedScore, ...] = ()
    unlikeness: Unlikeness | None = None
