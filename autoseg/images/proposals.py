"""From a map of probabilities to the regions that a second stage looks at, and what they hold of the truth.

Boxes are arrays (n, 2, 3): first voxel and the one after the last along (z, y, x).
"""

# Z Y X voxel, n pieces

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoseg.images.boxes import box_of
from autoseg.images.orientation import steps_between
from autoseg.images.postprocess import connected_pieces
from autoseg.records.geometry import Box, Shape, Triple
from autoseg.records.volumes import CaseRegions, Passage

LEVELS = 255
# Looked at for the lowest probability of a proposal, of 255; below the first an untrained corner of a softmax is found.
CANDIDATES = (3, 5, 8, 13, 20, 31, 51, 77, 102, 128)
# A case with more pieces keeps those of the highest peak: a network that has learned little leaves thousands.
MOST_PROPOSALS = 200
# A region that holds less of a lesion has lost it, for outside of the regions all is background.
HELD_FRACTION = 0.5
# With fewer empty proposals in a case a second stage would hardly see what it has to reject.
FEWEST_REJECTIONS = 10


@dataclass(frozen=True)
class Foreground:
    """What a first stage says of a scan, on its own network grid.

    Attributes:
        levels: uint8 (Z, Y, X), the probability of any structure in steps of 1/255.
        passage: The way there.
        output: `softmax` or `sigmoid`, of the first stage and so of the second.
    """

    levels: np.ndarray
    passage: Passage
    output: str


def level_of(threshold: float) -> int:
    """Return a probability as one of the levels 1 to 255."""
    return min(LEVELS, max(1, round(threshold * LEVELS)))


def pieces_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes (n, 2, 3) of the connected pieces of a bool mask (Z, Y, X), and their voxels (n,).

    Voxels that touch at a corner belong together.
    """
    around = box_of(mask)
    if around is None:
        return np.zeros((0, 2, 3), np.int32), np.zeros(0, np.int64)
    pieces, sizes = connected_pieces(mask[around])
    corner = np.array([part.start for part in around])
    boxes = [[[part.start for part in box], [part.stop for part in box]] for box in ndimage.find_objects(pieces)]
    return (np.array(boxes) + corner).astype(np.int32), sizes


def proposals(levels: np.ndarray, least: int) -> np.ndarray:
    """Return the boxes of the pieces of level `least` or more, highest peak first, at most `MOST_PROPOSALS`.

    Args:
        levels: uint8 (Z, Y, X).
        least: 1 to 255.
    """
    mask = levels >= least
    around = box_of(mask)
    if around is None:
        return np.zeros((0, 2, 3), np.int32)
    inner = levels[around]
    pieces, sizes = connected_pieces(mask[around])
    peaks = ndimage.maximum(inner, pieces, np.arange(1, len(sizes) + 1))
    boxes, _ = pieces_of(mask)
    order = np.lexsort((-sizes, -np.asarray(peaks, np.int64)))[:MOST_PROPOSALS]
    return boxes[order]


def carried(boxes: np.ndarray, source: Passage, target: Passage) -> np.ndarray:
    """Return boxes of one network grid on another of the same scan: int32, each holds at least what it held.

    Args:
        boxes: (n, 2, 3) on `source.network`.
        source: The way of the scan to the grid of the boxes.
        target: The way to the other grid.

    Raises:
        DataError: The two are not of one scan.
    """
    if source == target:
        return boxes.astype(np.int32)
    order, flips = steps_between(source.oriented, target.oriented)
    scale = np.array(source.crop.shape) / np.array(source.network.shape)
    edges = boxes * scale + np.array(source.crop.start)
    edges = edges[:, :, list(order)]
    for axis, flipped in enumerate(flips):
        if flipped:
            edges[:, :, axis] = target.oriented.shape[axis] - edges[:, ::-1, axis]
    edges = (edges - np.array(target.crop.start)) * np.array(target.network.shape) / np.array(target.crop.shape)
    # An edge that lies on a voxel's border up to rounding stays there.
    low, high = np.floor(edges[:, 0] + 1e-6), np.ceil(edges[:, 1] - 1e-6)
    return clipped(np.stack([low, high], axis=1).astype(np.int32), target.network.shape)


def grown(boxes: np.ndarray, margin_mm: float, spacing_mm: Triple, shape: Shape) -> np.ndarray:
    """Return boxes (n, 2, 3) grown by at least `margin_mm` on every side, as far as a grid of `shape` reaches."""
    margin = np.ceil(margin_mm / np.array(spacing_mm) - 1e-6).astype(np.int32)
    return clipped(np.stack([boxes[:, 0] - margin, boxes[:, 1] + margin], axis=1), shape)


def clipped(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return boxes (n, 2, 3) cut to a grid of `shape`; one outside becomes empty or keeps the voxel at the border."""
    return np.clip(boxes, 0, np.array(shape)).astype(np.int32)


def united(boxes: np.ndarray) -> list[Box]:
    """Return boxes of which no two overlap and which hold all of `boxes` (n, 2, 3): overlapping ones become one."""
    left = [(tuple(low), tuple(high)) for low, high in boxes.tolist() if all(a < b for a, b in zip(low, high))]
    done: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while left:
        low, high = left.pop()
        touching = next((item for item in done if _overlap(item, (low, high))), None)
        if touching is None:
            done.append((low, high))
            continue
        done.remove(touching)
        left.append((tuple(map(min, low, touching[0])), tuple(map(max, high, touching[1]))))
    return [Box(start=low, stop=high) for low, high in sorted(done)]


def _overlap(first: tuple[tuple[int, ...], ...], second: tuple[tuple[int, ...], ...]) -> bool:
    return all(a < d and c < b for a, b, c, d in zip(first[0], first[1], second[0], second[1]))


def covered(regions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a bool mask (Z, Y, X) of what lies in any region (n, 2, 3)."""
    mask = np.zeros(shape, bool)
    for (z, y, x), (end_z, end_y, end_x) in regions.tolist():
        mask[z:end_z, y:end_y, x:end_x] = True
    return mask


@dataclass(frozen=True)
class Counted:
    """The proposals of one case at every candidate level, beside the truth; all on the second stage's grid.

    Attributes:
        lesions: Boxes (m, 2, 3) of the connected pieces of all structures together.
        held: Bool (levels, m): at least half of the lesion lies in regions.
        boxes: (n, 2, 3) of the pieces at all levels, not grown.
        level: Index of each one's level, (n,).
        empty: Bool (n,): its region holds no voxel of a lesion.
        region_fraction: Share of the image in regions, (levels,).
    """

    lesions: np.ndarray
    held: np.ndarray
    boxes: np.ndarray
    level: np.ndarray
    empty: np.ndarray
    region_fraction: np.ndarray

    def at(self, index: int) -> CaseRegions:
        """Return what training takes of one level; where it left few empty, those of the next lower one that did not.

        Also a good first stage takes something for a lesion, only with a lower probability: at the level that is good
        enough to find the lesions it may propose nothing else, and the second stage would learn from lesions alone.
        """
        return CaseRegions(self.lesions, self.boxes[self.level == index], self.boxes[self._rejections(index)])

    def empty_at(self, index: int) -> int:
        """Return how many proposals of one level hold no lesion."""
        return int(self.empty[self.level == index].sum())

    def _rejections(self, index: int) -> np.ndarray:
        """Return which boxes (n,) windows are centred on to learn that they are no lesion."""
        enough = (level for level in range(index, 0, -1) if self.empty_at(level) >= FEWEST_REJECTIONS)
        return self.empty & (self.level == next(enough, 0))  # type: ignore[no-any-return]


def count(foreground: Foreground, lesions: np.ndarray, passage: Passage, *, margin_mm: float) -> Counted:
    """Return the proposals of a first stage at every candidate level, and what they hold of the lesions.

    Args:
        foreground: Of the first stage.
        lesions: Bool (Z, Y, X) on `passage.network`: the truth, all structures together.
        passage: Of the second stage.
        margin_mm: By which a box is grown to its region.
    """
    shape, spacing = passage.network.shape, passage.network.spacing_mm
    pieces, sizes = connected_pieces(lesions)
    names = np.arange(1, len(sizes) + 1)
    boxes, level, empty, held, shares = [], [], [], [], []
    for index, least in enumerate(CANDIDATES):
        found = carried(proposals(foreground.levels, least), foreground.passage, passage)
        regions = grown(found, margin_mm, spacing, shape)
        inside = covered(regions, shape)
        held.append(np.bincount(pieces[inside], minlength=len(sizes) + 1)[1:] >= HELD_FRACTION * sizes)
        empty.append(np.array([not lesions[box.slices()].any() for box in _as_boxes(regions)], bool))
        boxes.append(found)
        level.append(np.full(len(found), index, np.int32))
        shares.append(float(inside.mean()))
    return Counted(
        lesions=pieces_of(lesions)[0],
        held=np.array(held, bool).reshape(len(CANDIDATES), len(names)),
        boxes=np.concatenate(boxes),
        level=np.concatenate(level),
        empty=np.concatenate(empty),
        region_fraction=np.array(shares),
    )


def _as_boxes(boxes: np.ndarray) -> list[Box]:
    return [Box(start=tuple(low), stop=tuple(high)) for low, high in boxes.tolist()]
