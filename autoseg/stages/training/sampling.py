"""Which windows of which cases a batch holds: every draw is keyed by (seed, step, sample).

Because nothing depends on what was drawn before, a resumed run, another number of threads and another device see
the same batches.
"""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoseg.records.configuration import Sides
from autoseg.records.errors import DataError, UserError
from autoseg.records.geometry import Shape
from autoseg.records.preset import Augmentation
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training.centring import Centres, centred


@dataclass(frozen=True)
class Rules:
    """What sampling needs to know of a run.

    Attributes:
        seed: Of the model; not negative.
        batch_size: Samples a step.
        patch_shape: (z, y, x), what the network sees.
        foreground_fraction: Share of the batch that is centred on a structure, at least one sample.
        structures: K; positions of other values (background, ignored) are no foreground.
        mirror_axes: Axes that the augmentation may flip.
        augmentation: Its probabilities and ranges.
        optional: Channels that a case may lack; they stay zero where it does.
        channels: Of a case; read only where some are optional.
        previous: Whether the previous stage's labels are read too (a cascade's second stage).
        context_slices: Slices on each side that are read as further channels (2.5D).
        sides: What becomes of twins left and right of one another.
        centres: Shares of what windows are centred on where a network works on regions; None: anywhere.
        rank, ranks: Which of so many processes reads: every `ranks`-th sample of the batch, from the `rank`-th on.
    """

    seed: int
    batch_size: int
    patch_shape: Shape
    foreground_fraction: float
    structures: int
    mirror_axes: tuple[int, ...]
    augmentation: Augmentation
    optional: tuple[int, ...] = ()
    channels: int = 1
    previous: bool = False
    context_slices: int = 0
    sides: Sides | None = None
    centres: Centres | None = None
    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True)
class Sample:
    """One place of a batch: the case, the corner of the patch in it, and the random change it will get."""

    case: int
    corner: Shape
    draw: Any


@dataclass(frozen=True)
class Windows:
    """What was read for one batch, before augmentation.

    Attributes:
        cases: Case ids, one a sample.
        draws: One a sample, of `autoseg.networks.augmentation`.
        image: float32, (B, C, *source), zero outside of the image.
        labels: (B, *source), inside values, 0 (background) outside of the image.
        previous: As `labels`, of the previous stage, or None.
        annotated: Bool, (B, K + 1), or None where every case has every structure annotated.
    """

    cases: tuple[str, ...]
    draws: tuple[Any, ...]
    image: np.ndarray
    labels: np.ndarray
    previous: np.ndarray | None
    annotated: np.ndarray | None


def foreground_samples(batch_size: int, fraction: float) -> int:
    """Return how many samples at the end of each batch are centred on a structure: at least one, unless 0 is asked."""
    return 0 if fraction == 0 else min(batch_size, max(1, round(batch_size * fraction)))


def choose(rules: Rules, cases: Sequence[PreprocessedCase], step: int) -> tuple[Sample, ...]:
    """Return the samples of step `step`: cases uniform; structure uniform within the case, then voxel uniform."""
    # Imported here: it brings torch, which the choice of a window does not need.
    from autoseg.networks import augmentation

    samples = []
    guided = foreground_samples(rules.batch_size, rules.foreground_fraction)
    for index in range(rules.batch_size):
        rng = np.random.default_rng([rules.seed, step, index])
        number = int(rng.integers(len(cases)))
        foreground = index >= rules.batch_size - guided
        corner = _corner(rng, cases[number], rules, foreground=foreground)
        draw = augmentation.draw(
            rng,
            rules.augmentation,
            patch_shape=rules.patch_shape,
            mirror_axes=rules.mirror_axes,
            channels=cases[number].image.shape[0],
            previous=rules.previous,
        )
        draw = augmentation.for_neighbours(draw, rules.context_slices)
        samples.append(Sample(number, corner, draw))
    return tuple(samples)


def read(rules: Rules, cases: Sequence[PreprocessedCase], step: int) -> Windows:
    """Choose and read the windows of step `step`, exactly as large as this batch's draws need.

    Raises:
        DataError: A case cannot be read; it is named.
    """
    from autoseg.networks import augmentation

    samples = choose(rules, cases, step)[rules.rank :: rules.ranks]
    draws = tuple(sample.draw for sample in samples)
    source = augmentation.source_shape(draws, rules.patch_shape)
    first = cases[0]
    count = len(samples)
    channels = first.image.shape[0] * (2 * rules.context_slices + 1)
    image = np.zeros((count, channels, *source), np.float32)
    labels = np.zeros((count, *source), first.labels.dtype)
    previous = np.zeros((count, *source), first.labels.dtype) if rules.previous else None
    for index, sample in enumerate(samples):
        case = cases[sample.case]
        start = [c - (s - p) // 2 for c, s, p in zip(sample.corner, source, rules.patch_shape, strict=True)]
        try:
            copy_slices(case.image, start, image[index], count=rules.context_slices)
            copy_window(case.labels, start, labels[index])
            if previous is not None:
                copy_window(case.previous, start, previous[index])
        except UserError as error:
            raise error.in_case(case.id) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"the preprocessed arrays cannot be read ({error})",
                case=case.id,
                fix="Run `autoseg plan_and_preprocess` again; it redoes this case alone if its files are gone.",
            ) from error
    ids = tuple(cases[sample.case].id for sample in samples)
    annotated = _annotated([cases[sample.case] for sample in samples], cases, rules.structures)
    return Windows(ids, draws, image, labels, previous, annotated)


def copy_window(array: Any, start: Sequence[int], out: np.ndarray) -> None:
    """Copy the window that begins at `start` into `out`, which keeps what it holds outside of the array.

    Args:
        array: (..., Z, Y, X), a NumPy array or one that reads the slices asked for.
        start: (z, y, x) of the window's first voxel; may be negative.
        out: (..., z, y, x), as large as the window; changed in place.
    """
    leading = (slice(None),) * (out.ndim - 3)
    here, there = [], []
    for begin, size, length in zip(start, out.shape[-3:], array.shape[-3:], strict=True):
        low, high = max(begin, 0), min(begin + size, length)
        if low >= high:
            return
        here.append(slice(low, high))
        there.append(slice(low - begin, high - begin))
    out[(*leading, *there)] = array[(*leading, *here)]


def copy_slices(image: Any, start: Sequence[int], out: np.ndarray, *, count: int) -> None:
    """Copy one slice, and `count` slices on each side of it as channels, as `images.context.with_neighbours` lays them.

    Args:
        image: (C, Z, Y, X).
        start: (z, y, x) of the window's first voxel.
        out: (C * (2 count + 1), z, y, x), z = 1 where `count` is not 0; changed in place.
        count: 0 copies the window as it is.
    """
    if count == 0:
        copy_window(image, start, out)
        return
    channels = image.shape[0]
    for number, step in enumerate(range(-count, count + 1)):
        z = min(max(start[0] + step, 0), image.shape[1] - 1)
        copy_window(image, (z, *start[1:]), out[number * channels : (number + 1) * channels])


def hold(cases: Sequence[PreprocessedCase], limit_bytes: float) -> tuple[PreprocessedCase, ...]:
    """Return the cases with their arrays in memory where all of them together fit, else as they are.

    Raises:
        DataError: A case cannot be read; it is named.
    """
    if sum(_bytes(array) for case in cases for array in (case.image, case.labels, case.previous)) > limit_bytes:
        return tuple(cases)
    return tuple(_in_memory(case) for case in cases)


def check_cases(cases: Sequence[PreprocessedCase], *, channels: int, previous: bool, regions: bool = False) -> None:
    """Refuse cases that a network cannot be trained on.

    Raises:
        DataError: There is none, or one has no labels, other channels, or lacks what an earlier stage says.
    """
    if not cases:
        raise DataError("there is no case to train on", fix="Preprocess the data set, or choose another fold.")
    for case in cases:
        if case.labels is None:
            raise DataError("has no labels to train on", case=case.id, fix="Leave it out of the training cases.")
        if case.image.shape[0] != channels:
            raise DataError(
                f"has {case.image.shape[0]} channels but the network takes {channels}",
                case=case.id,
                fix="Run `autoseg plan_and_preprocess` again.",
            )
        if previous and case.previous is None:
            raise DataError(
                "lacks the prediction of the cascade's first stage",
                case=case.id,
                fix="Train and predict every fold of the low-resolution configuration first.",
            )
        if regions and case.regions is None:
            raise DataError(
                "lacks the regions that the first stage proposes",
                case=case.id,
                fix="Train and predict every fold of the first stage first.",
            )


def _corner(rng: np.random.Generator, case: PreprocessedCase, rules: Rules, *, foreground: bool) -> Shape:
    """Return the first voxel of the patch; it may lie outside of the image.

    A random patch lies inside the image, and holds the whole of it along an axis where the image is smaller. A patch
    around a structure has the chosen voxel in its middle wherever that is.
    """
    if rules.centres is not None and case.regions is not None:
        corner = centred(rng, case.regions, rules.centres, rules.patch_shape)
        if corner is not None:
            return corner
    shape, patch = case.image.shape[-3:], rules.patch_shape
    values = [value for value in sorted(case.positions) if 1 <= value <= rules.structures]
    values = [value for value in values if len(case.positions[value])]
    if foreground and values:
        voxels = case.positions[values[int(rng.integers(len(values)))]]
        voxel = voxels[int(rng.integers(len(voxels)))]
        z, y, x = (int(v) - p // 2 for v, p in zip(voxel, patch, strict=True))
        return (z, y, x)
    room = [n - p for n, p in zip(shape, patch, strict=True)]
    z, y, x = (int(rng.integers(min(0, r), max(0, r) + 1)) for r in room)
    return (z, y, x)


def _annotated(
    batch: Sequence[PreprocessedCase], cases: Sequence[PreprocessedCase], structures: int
) -> np.ndarray | None:
    """Return which structures were annotated, a row a sample; a case that names none has all of them."""
    everything = set(range(1, structures + 1))
    if all(not case.annotated or everything <= set(case.annotated) for case in cases):
        return None
    rows = [[True] + [not case.annotated or k in case.annotated for k in sorted(everything)] for case in batch]
    return np.array(rows, bool)


def _bytes(array: Any) -> int:
    return 0 if array is None else math.prod(array.shape) * np.dtype(array.dtype).itemsize


def _in_memory(case: PreprocessedCase) -> PreprocessedCase:
    try:
        image, labels, previous = (
            None if array is None else np.ascontiguousarray(array[:])
            for array in (case.image, case.labels, case.previous)
        )
    except UserError as error:
        raise error.in_case(case.id) from None
    return replace(case, image=image, labels=labels, previous=previous)
