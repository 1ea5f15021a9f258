"""Dice of many candidates from voxel counts, slab by slab, without ever holding all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autoseg.records.dataset import Dataset
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.scoring import annotated_targets

# (candidate, case) -> uint8 probabilities 0..255, (K, Z, Y, X) on the case's original grid: background and
# structures, or one a region. Anything that NumPy can slice along Z will do, such as a blosc2 array.
CaseReader = Callable[[str, str], np.ndarray]
TruthReader = Callable[[str], LabelMap]

SLAB_BYTES = 64 * 2**20


class Judged(Protocol):
    """A case to judge by: `records.dataset.Case` and `HeldOut` both are."""

    @property
    def id(self) -> str:
        """The case."""

    @property
    def group(self) -> str:
        """The patient."""

    @property
    def annotated(self) -> tuple[str, ...] | None:
        """Names of the structures that were annotated; None means all."""


@dataclass(frozen=True)
class HeldOut:
    """A case that one fold of every candidate has predicted without having trained on it.

    Attributes:
        id: The case.
        group: The patient.
        fold: The fold that holds it out.
        annotated: Names of the structures that were annotated; None means all.
    """

    id: str
    group: str
    fold: str
    annotated: tuple[str, ...] | None = None


def held_out_cases(dataset: Dataset) -> tuple[HeldOut, ...]:
    """Return the cases that a fold of cross-validation holds out, in the order of the data set."""
    fold_of = {case: fold.name for fold in dataset.folds for case in fold.held_out}
    return tuple(
        HeldOut(id=case.id, group=case.group, fold=fold_of[case.id], annotated=case.annotated)
        for case in dataset.cases
        if case.id in fold_of
    )


@dataclass(frozen=True)
class Counts:
    """Voxels of each target: in truth and prediction, in the truth, in the prediction; int64, (targets,)."""

    both: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    def plus(self, other: Counts, sign: int = 1) -> Counts:
        """Return the sum (or the difference, `sign` -1) of two counts."""
        return Counts(
            self.both + sign * other.both, self.truth + sign * other.truth, self.prediction + sign * other.prediction
        )

    def dice(self) -> np.ndarray:
        """Return Dice of each target, float64; nan where truth and prediction are both empty."""
        size = self.truth + self.prediction
        return np.divide(2.0 * self.both, size, out=np.full(size.shape, np.nan), where=size > 0)


def no_counts(labels: Labels) -> Counts:
    """Return zero voxels for each target."""
    nothing = np.zeros(len(labels.targets), dtype=np.int64)
    return Counts(nothing, nothing, nothing)


def count_labels(truth: np.ndarray, prediction: np.ndarray, labels: Labels) -> Counts:
    """Return the counts of a label map; voxels that the truth ignores are left out.

    Args:
        truth: Inside values, any shape.
        prediction: Inside values, the shape of `truth`.
        labels: What is counted.
    """
    size = len(labels.structures) + 2  # background, structures, ignored
    pairs = np.bincount(truth.ravel().astype(np.int64) * size + prediction.ravel(), minlength=size * size)
    table = pairs.reshape(size, size)
    if labels.ignore_value is not None:
        table[labels.ignore_value] = 0
    rows = [list(values) for _, values in labels.targets]
    return Counts(
        both=np.array([table[np.ix_(values, values)].sum() for values in rows]),
        truth=np.array([table[values].sum() for values in rows]),
        prediction=np.array([table[:, values].sum() for values in rows]),
    )


def count_regions(truth: np.ndarray, above: np.ndarray, labels: Labels) -> Counts:
    """Return the counts of overlapping regions.

    Args:
        truth: Inside values, any shape.
        above: Bool, (regions, *shape of `truth`): where each region was predicted.
        labels: Which regions.
    """
    known = np.ones(truth.shape, dtype=bool) if labels.ignore_value is None else truth != labels.ignore_value
    masks = [np.isin(truth, values) & known for _, values in labels.targets]
    return Counts(
        both=np.array([np.count_nonzero(mask & part) for mask, part in zip(masks, above, strict=True)]),
        truth=np.array([np.count_nonzero(mask) for mask in masks]),
        prediction=np.array([np.count_nonzero(part & known) for part in above]),
    )


@dataclass(frozen=True)
class Voxels:
    """The voxels of one case that can count.

    Attributes:
        places: Bool, (Z, Y, X): which they are.
        truth: Inside values, (n,).
        parts: One a candidate: uint8 probabilities, (K, n).
    """

    places: np.ndarray
    truth: np.ndarray
    parts: list[np.ndarray]

    @property
    def bytes(self) -> int:
        """What it holds in memory."""
        return self.places.nbytes + self.truth.nbytes + sum(part.nbytes for part in self.parts)


def undecided(truth: np.ndarray, parts: Sequence[np.ndarray], labels: Labels) -> Voxels:
    """Return the voxels that can count: not those that are background in the truth and for every candidate.

    Where each candidate holds background (no region) for likelier than not, so does every weighted mean of them;
    leaving these voxels out changes no count and saves most of the work.

    Args:
        truth: Inside values, (Z, Y, X).
        parts: One a candidate: uint8, (K, Z, Y, X), sliceable; read slab by slab.
        labels: Whether the classes compete (softmax) or overlap (regions).
    """
    slice_bytes = int(np.prod(parts[0].shape)) // truth.shape[0] * len(parts)
    depth = max(1, SLAB_BYTES // max(1, slice_bytes))
    places = truth != 0
    kept: list[list[np.ndarray]] = [[] for _ in parts]
    for start in range(0, truth.shape[0], depth):
        here = slice(start, start + depth)
        slabs = [np.asarray(part[:, here]) for part in parts]
        keep = places[here]
        for slab in slabs:
            keep |= slab.max(axis=0) > 127 if labels.regions else slab[0] < 128
        for voxels, slab in zip(kept, slabs, strict=True):
            voxels.append(slab[:, keep])
    return Voxels(places, truth[places], [np.concatenate(voxels, axis=1) for voxels in kept])


def dice_of_sums(voxels: Voxels, weights: np.ndarray, *, labels: Labels) -> list[np.ndarray]:
    """Return Dice of each target for several weighted sums of the same probabilities.

    Args:
        voxels: Of one case.
        weights: Whole numbers, (sums, candidates), or (sums, candidates, K) where each channel has its own, which add
            up to the same number in each channel.
        labels: What is scored.

    Returns:
        One float64 array (targets,) a sum; nan where there is nothing to score.
    """
    totals = [no_counts(labels) for _ in weights]
    truth = voxels.truth
    for here in _pieces(voxels):
        pieces = [part[:, here] for part in voxels.parts]
        for row, weight in enumerate(weights):
            counts = _count(truth[here], _mix(pieces, weight), _total(weight), labels=labels)
            totals[row] = totals[row].plus(counts)
    return [counts.dice() for counts in totals]


def label_map_of_sum(voxels: Voxels, weight: np.ndarray, *, grid: Grid, labels: Labels) -> LabelMap:
    """Return the label map of a weighted sum of the same probabilities; `weight` as a row of `dice_of_sums` has it."""
    array = np.zeros(grid.shape, np.uint8 if len(labels.structures) <= 250 else np.int16)
    found = np.zeros(len(voxels.truth), array.dtype)
    for here in _pieces(voxels):
        mixed = _mix([part[:, here] for part in voxels.parts], weight)
        if labels.regions:
            for value, above in zip(labels.region_values, mixed > 127.5 * _total(weight), strict=True):
                found[here][above] = value
        else:
            found[here] = _winner(mixed)
    array[voxels.places] = found
    return LabelMap(array, grid)


def _pieces(voxels: Voxels) -> Iterator[slice]:
    step = max(1, SLAB_BYTES // (2 * len(voxels.parts[0])))
    for start in range(0, len(voxels.truth), step):
        yield slice(start, start + step)


def _mix(slabs: Sequence[np.ndarray], weight: np.ndarray) -> np.ndarray:
    # Whole numbers below 2**16: weights add up to less than 257, so that sums are exact and ties fall alike everywhere.
    mixed = np.zeros(slabs[0].shape, dtype=np.uint16)
    for slab, times in zip(slabs, weight.astype(np.uint16), strict=True):
        if times.any():
            mixed += slab * times.reshape(-1, *[1] * (slab.ndim - 1))
    return mixed


def _total(weight: np.ndarray) -> int:
    return int(weight.sum() if weight.ndim == 1 else weight[:, 0].sum())


def _count(truth: np.ndarray, mixed: np.ndarray, total: int, *, labels: Labels) -> Counts:
    if labels.regions:
        return count_regions(truth, mixed > 127.5 * total, labels)
    return count_labels(truth, _winner(mixed), labels)


def _winner(mixed: np.ndarray) -> np.ndarray:
    best, winner = mixed[0].copy(), np.zeros(mixed.shape[1:], dtype=np.int64)
    for value in range(1, len(mixed)):
        higher = mixed[value] > best
        np.copyto(winner, value, where=higher)
        np.copyto(best, mixed[value], where=higher)
    return winner


def without_unannotated(dice: np.ndarray, case: Judged, labels: Labels) -> np.ndarray:
    """Return the figures with nan for the targets that nobody annotated in this case."""
    known = annotated_targets(labels, case.annotated)
    return np.where([name in known for name, _ in labels.targets], dice, np.nan)


def check_parts(case: str, truth: LabelMap, parts: Sequence[np.ndarray], labels: Labels) -> None:
    """Refuse probabilities that do not fit the truth.

    Raises:
        DataError: A shape differs from what the truth and the labels ask for.
    """
    expected = (labels.output_channels, *truth.array.shape)
    for part in parts:
        if tuple(part.shape) != expected:
            raise DataError(
                f"held-out probabilities have shape {tuple(part.shape)}, expected {expected} (class, z, y, x)",
                case=case,
                fix="Train that fold again, or leave the candidate out.",
                code="geometry_differs",
            )
