"""Lesion by lesion: which of the pieces of a truth were found, and which predicted pieces are none.

A lesion is a connected piece of a mask; voxels that touch at a corner belong together. What counts, stated once:

- A truth lesion is *found* when at least `least_overlap_fraction` of its voxels, and at least one, are predicted; by
  however many pieces. Else it is *missed*.
- A predicted piece is a *false positive* when no voxel of it lies in the truth. A piece that touches lesions without
  finding any is no false positive: the missed lesion is counted already.
- For panoptic quality every lesion has at most one piece and every piece at most one lesion: pairs that touch are
  taken in the order of their IoU, the greatest first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoseg.images.measures.overlap import check_shapes
from autoseg.images.postprocess import connected_pieces
from autoseg.records.geometry import Triple

SMALL_MM = 10.0  # equivalent diameter from which a lesion counts as large

# A share that equals the least one counts, also where 0.7 x 10 is a little more than 7.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Detection:
    """How many lesions were found; figures 0 to 1, nan without lesions and false positives (nothing to score).

    Attributes:
        truths: Lesions of the truth.
        found: Of these, found.
        false_positives: Predicted pieces that touch no lesion.
    """

    truths: int
    found: int
    false_positives: int

    @property
    def missed(self) -> int:
        """Lesions that were not found."""
        return self.truths - self.found

    @property
    def sensitivity(self) -> float:
        """Found lesions of all lesions; 0 when there is none but a false positive."""
        return self._share(self.found, self.truths)

    @property
    def precision(self) -> float:
        """Found lesions of found lesions and false positives; 0 when nothing was found."""
        return self._share(self.found, self.found + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision."""
        return self._share(2 * self.found, 2 * self.found + self.missed + self.false_positives)

    def _share(self, part: int, whole: int) -> float:
        if self.truths == 0 and self.false_positives == 0:
            return math.nan
        return part / whole if whole else 0.0


@dataclass(frozen=True)
class Lesion:
    """One lesion of the truth, found or missed, or one false positive.

    Attributes:
        kind: What became of it.
        centre: Mean voxel index (z, y, x) in the arrays that were compared.
        voxels: Its size.
        diameter_mm: Of the ball (in 2D the disc) with its content.
        dice: A found lesion against all pieces that touch it; 0 for the others.
    """

    kind: Literal["found", "missed", "false_positive"]
    centre: Triple
    voxels: int
    diameter_mm: float
    dice: float


@dataclass(frozen=True)
class Lesions:
    """Two masks compared lesion by lesion; figures 0 to 1, nan when both masks are empty, 0 when exactly one is.

    Attributes:
        every: All lesions.
        small: Lesions (and false positives, by their own size) below 10 mm equivalent diameter.
        large: The others.
        predicted: Predicted pieces.
        lesion_dice: Mean over truth lesions and false positives of Dice: a found lesion against all pieces that
            touch it; 0 for a missed lesion and for a false positive.
        segmentation_quality: Mean IoU of the pairs of lesion and piece; 0 without a pair.
        recognition_quality: Pairs / (pairs + half of the lesions and pieces without a partner).
        details: Every lesion of the truth, then every false positive, in array order.
    """

    every: Detection
    small: Detection
    large: Detection
    predicted: int
    lesion_dice: float
    segmentation_quality: float
    recognition_quality: float
    details: tuple[Lesion, ...] = ()

    @property
    def panoptic_quality(self) -> float:
        """Segmentation quality x recognition quality."""
        return self.segmentation_quality * self.recognition_quality


@dataclass(frozen=True)
class _Pieces:
    """Sizes of the lesions and pieces, and a row for each pair that touches (numbers count from 0).

    Attributes:
        truths, predicted: Voxels of each, int64.
        lesion, piece: The two of each pair.
        shared: Voxels that they share.
        lesion_centres, piece_centres: Mean voxel index of each, float64, (n, 3).
    """

    truths: np.ndarray
    predicted: np.ndarray
    lesion: np.ndarray
    piece: np.ndarray
    shared: np.ndarray
    lesion_centres: np.ndarray
    piece_centres: np.ndarray


def lesions(
    truth: np.ndarray, prediction: np.ndarray, *, spacing_mm: Triple, least_overlap_fraction: float = 0.0
) -> Lesions:
    """Return which lesions were found, how well, and which predicted pieces are none.

    Args:
        truth: Bool, (Z, Y, X); Z = 1 makes it a figure in the plane.
        prediction: Bool, the shape of `truth`.
        spacing_mm: Voxel size along (z, y, x), in mm.
        least_overlap_fraction: Share of a lesion's voxels that must be predicted, 0 to 1; 0: one voxel is enough.

    Raises:
        DataError: The shapes differ; nothing is broadcast.

    Source:
        Panoptic quality: Kirillov et al. 2019, arXiv:1801.00868 (here with the matching stated above). Lesion-wise
        Dice: Moawad et al. 2023 (BraTS-METS), arXiv:2306.00838, here without dilating the truth.
    """
    check_shapes(truth, prediction)
    pieces = _pieces(truth, prediction)
    covered = np.bincount(pieces.lesion, pieces.shared, minlength=len(pieces.truths))
    found = (covered > 0) & (covered >= least_overlap_fraction * pieces.truths * (1 - ROUNDING))
    spurious = np.bincount(pieces.piece, minlength=len(pieces.predicted)) == 0
    diameters, piece_diameters = (
        equivalent_diameters_mm(sizes, spacing_mm=spacing_mm, flat=truth.shape[0] == 1)
        for sizes in (pieces.truths, pieces.predicted)
    )
    wide, wide_pieces = diameters >= SMALL_MM, piece_diameters >= SMALL_MM
    segmentation, recognition = _panoptic(pieces)
    dice = _dice_of_found(pieces, found)
    details = _details(pieces, found, spurious, diameters=(diameters, piece_diameters), dice=dice)
    return Lesions(
        every=_detection(found, spurious),
        small=_detection(found[~wide], spurious[~wide_pieces]),
        large=_detection(found[wide], spurious[wide_pieces]),
        predicted=len(pieces.predicted),
        lesion_dice=float(dice.sum() / len(details)) if details else math.nan,
        segmentation_quality=segmentation,
        recognition_quality=recognition,
        details=details,
    )


def equivalent_diameters_mm(sizes: np.ndarray, *, spacing_mm: Triple, flat: bool) -> np.ndarray:
    """Return the diameter in mm of the ball (the disc in a `flat` image) with the content of so many voxels."""
    if flat:
        return 2 * np.sqrt(sizes * math.prod(spacing_mm[1:]) / math.pi)
    return np.cbrt(6 * sizes * math.prod(spacing_mm) / math.pi)


def _pieces(truth: np.ndarray, prediction: np.ndarray) -> _Pieces:
    (lesion_map, truths), (piece_map, predicted) = connected_pieces(truth), connected_pieces(prediction)
    both = truth & prediction
    # One number a pair: a table of all pairs would not fit where both sides are full of specks.
    keys = (lesion_map[both].astype(np.int64) - 1) * max(len(predicted), 1) + piece_map[both].astype(np.int64) - 1
    pairs, shared = np.unique(keys, return_counts=True)
    lesion, piece = np.divmod(pairs, max(len(predicted), 1))
    return _Pieces(
        truths, predicted, lesion, piece, shared, _centres(lesion_map, truths), _centres(piece_map, predicted)
    )


def _details(
    pieces: _Pieces,
    found: np.ndarray,
    spurious: np.ndarray,
    *,
    diameters: tuple[np.ndarray, np.ndarray],
    dice: np.ndarray,
) -> tuple[Lesion, ...]:
    of_lesions, of_pieces = diameters
    rows = [
        Lesion("found" if was else "missed", _triple(centre), int(size), float(mm), float(own))
        for was, centre, size, mm, own in zip(
            found, pieces.lesion_centres, pieces.truths, of_lesions, dice, strict=True
        )
    ]
    for i in np.flatnonzero(spurious):
        centre, size = _triple(pieces.piece_centres[i]), int(pieces.predicted[i])
        rows.append(Lesion("false_positive", centre, size, float(of_pieces[i]), 0.0))
    return tuple(rows)


def _centres(numbered: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    # -> mean voxel index of piece 1, 2, ..., float64, (n, 3)
    at = np.nonzero(numbered)
    numbers = numbered[at]
    sums = [np.bincount(numbers, axis, minlength=len(sizes) + 1)[1:] for axis in at]
    return np.stack(sums, axis=1) / sizes[:, None]


def _triple(numbers: np.ndarray) -> Triple:
    z, y, x = (float(number) for number in numbers)
    return (z, y, x)


def _detection(found: np.ndarray, spurious: np.ndarray) -> Detection:
    return Detection(truths=found.size, found=int(found.sum()), false_positives=int(spurious.sum()))


def _dice_of_found(pieces: _Pieces, found: np.ndarray) -> np.ndarray:
    # -> float64, one a lesion: Dice with all pieces that touch it, 0 where it was missed
    shared = np.bincount(pieces.lesion, pieces.shared, minlength=found.size)
    touching = np.bincount(pieces.lesion, pieces.predicted[pieces.piece], minlength=found.size)
    return np.where(found, 2 * shared / (pieces.truths + touching), 0.0)


def _panoptic(pieces: _Pieces) -> tuple[float, float]:
    # -> segmentation quality, recognition quality
    count = len(pieces.truths) + len(pieces.predicted)
    if not count:
        return math.nan, math.nan
    iou = pieces.shared / (pieces.truths[pieces.lesion] + pieces.predicted[pieces.piece] - pieces.shared)
    taken_lesions: set[int] = set()
    taken_pieces: set[int] = set()
    pairs = []
    for row in np.argsort(-iou, kind="stable"):
        lesion, piece = int(pieces.lesion[row]), int(pieces.piece[row])
        if lesion not in taken_lesions and piece not in taken_pieces:
            taken_lesions.add(lesion)
            taken_pieces.add(piece)
            pairs.append(float(iou[row]))
    # Pairs + half of those without a partner = half of all lesions and pieces.
    return (sum(pairs) / len(pairs) if pairs else 0.0), len(pairs) / (0.5 * count)
