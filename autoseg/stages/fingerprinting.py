"""Dataset -> Fingerprint: every number that planning may know, measured on the training cases only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.records.dataset import Case, Channel, Correction, Dataset
from autoseg.records.errors import CasesFailed, DataError, UserError
from autoseg.records.fingerprint import CaseFacts, Fingerprint, Intensity, PieceFacts, StructureFacts
from autoseg.records.geometry import Triple
from autoseg.records.labels import Labels

# 20 million voxels a channel (80 MB) fix the 0.5th and 99.5th percentile to four digits; nnU-Net keeps 100 million.
SAMPLED_VOXELS = 20_000_000
PERCENTILES = (0.5, 99.5)
# Structures that take up more of a cropped image are no small lesions, and their pieces are not counted.
SPARSE_FRACTION = 0.01
LEAST_PIECES = 2


@dataclass(frozen=True)
class _Order:
    """What one process needs to measure one case."""

    case: Case
    channels: tuple[Channel, ...]
    labels: Labels
    corrections: tuple[Correction, ...]
    sample: int
    kept: Path | None


@dataclass(frozen=True)
class _Seen:
    """One structure in one case: its bounding box in mm, and its centre as fractions of the cropped image."""

    volume_ml: float
    extent_mm: Triple
    centroid: Triple


@dataclass(frozen=True)
class _Measured:
    """What comes back from one case.

    Attributes:
        samples: A float32 array of foreground intensities a channel.
        seen: A structure's inside value -> where it lies; absent structures are missing.
        annotated: Inside values of the structures that somebody looked for.
        pieces: (volume in ml, longest side in mm) of each connected piece; None where they take up too much.
    """

    facts: CaseFacts
    samples: tuple[np.ndarray, ...]
    seen: dict[int, _Seen]
    annotated: tuple[int, ...]
    pieces: tuple[tuple[float, float], ...] | None


def measure(
    dataset: Dataset, *, workers: int | None = None, skip: Collection[str] = (), kept: Path | None = None
) -> Fingerprint:
    """Return the data set in numbers.

    Each case is brought to LPS orientation and cropped to where any channel is not zero. Intensities come from
    foreground voxels, at most an equal number a case, drawn with a seed that is keyed by the case. The result does
    not depend on the number of workers. Test cases are never looked at.

    Args:
        dataset: As it was imported.
        workers: Processes; None means as many as processors and memory admit.
        skip: Ids of cases to leave out.
        kept: Folder in which registrations and bias fields are kept.

    Raises:
        CasesFailed: Some cases cannot be read; every one is listed.
        DataError: No case holds a labelled voxel.
        UsageError: `skip` names a case that does not exist.

    Source:
        Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
    """
    from autoseg.compute.workers import map_cases, suited

    left_out = {dataset.case(id).id for id in skip}
    cases = [case for case in dataset.cases if case.id not in left_out]
    sample = SAMPLED_VOXELS // max(1, len(cases))
    shared = (dataset.channels, dataset.labels, dataset.corrections, sample, kept)
    orders = [(case.id, _Order(case, *shared)) for case in cases]
    count = suited(workers, (path for case in cases for path in case.files()))
    found: dict[str, _Measured | UserError] = dict(map_cases(_measure_case, orders, workers=count, label="fingerprint"))
    measured = _all_well([(case.id, found[case.id]) for case in cases])
    if not any(item.seen for item in measured):
        raise DataError(
            f"none of the {len(measured)} cases of {dataset.name} holds a labelled voxel: there is nothing to learn",
            file=dataset.source,
            fix="Check that the label files and the values of the labels belong together.",
            code="nothing_to_learn",
        )
    return Fingerprint(
        dataset=dataset.name,
        dataset_digest=dataset.digest(),
        channels=dataset.channels,
        labels=dataset.labels,
        groups=len({case.group for case in cases}),
        cases=tuple(item.facts for item in measured),
        intensities=tuple(
            _intensity(channel.name, [item.samples[index] for item in measured])
            for index, channel in enumerate(dataset.channels)
        ),
        structures=tuple(_structure(item.name, item.value, measured) for item in dataset.labels.structures),
        pieces=_all_pieces(measured),
    )


def _all_well(found: Sequence[tuple[str, _Measured | UserError]]) -> list[_Measured]:
    failures = {case: item for case, item in found if isinstance(item, UserError)}
    if failures:
        first = next(iter(failures.values()))
        raise CasesFailed(
            f"{len(failures)} of {len(found)} cases cannot be measured, the first: {first}",
            failures,
            fix=f"Mend them, or leave them out with --skip {','.join(failures)}.",
        )
    return [item for _, item in found if not isinstance(item, UserError)]


def _measure_case(order: _Order) -> _Measured:
    from autoseg.images import cases, orientation, regrid

    case, labels = order.case, order.labels
    image = cases.read_image(case.images, order.channels, order.corrections, case=case.id, kept=order.kept)
    array, grid = orientation.orient(image.array, image.grid)
    box = regrid.nonzero_box(array)
    cut = box.slices()
    array = array[(slice(None), *cut)]
    values = np.zeros(box.shape, np.uint8)
    if case.labels is not None:
        read = cases.read_labels(case.labels, labels, image.grid, case=case.id, corrections=order.corrections)
        values = orientation.orient(read.array, image.grid)[0][cut]
    structures = len(labels.structures)
    # Counted only up to the structures: the value after them means "ignored".
    voxels = np.bincount(values.ravel(), minlength=structures + 1)[1 : structures + 1]
    valid = None if image.valid is None else orientation.orient(image.valid, image.grid)[0][(slice(None), *cut)]
    kept = float(np.prod(box.shape) / np.prod(grid.shape))
    return _Measured(
        facts=CaseFacts(
            id=case.id,
            shape=box.shape,
            spacing_mm=grid.spacing_mm,
            crop_fraction=kept,
            voxels=tuple(int(count) for count in voxels),
        ),
        samples=_samples(array, values, valid, structures=structures, order=order),
        seen=_seen(values, grid.spacing_mm, structures),
        annotated=_annotated(case, labels),
        pieces=_pieces((values > 0) & (values <= structures), grid.spacing_mm),
    )


def _annotated(case: Case, labels: Labels) -> tuple[int, ...]:
    if case.labels is None:
        return ()
    return tuple(item.value for item in labels.structures if case.annotated is None or item.name in case.annotated)


def _samples(
    array: np.ndarray, values: np.ndarray, valid: np.ndarray | None, *, structures: int, order: _Order
) -> tuple[np.ndarray, ...]:
    foreground = np.flatnonzero((values > 0) & (values <= structures))
    if len(foreground) > order.sample:
        seed = int.from_bytes(hashlib.sha256(order.case.id.encode()).digest()[:8], "little")
        chosen = np.random.default_rng(seed).choice(len(foreground), order.sample, replace=False)
        foreground = foreground[np.sort(chosen)]
    found = []
    for index, channel in enumerate(array):
        places = foreground
        if valid is not None:
            # Padding outside a channel's own field of view is no measurement of it.
            places = foreground[valid[index].ravel()[foreground]]
        found.append(channel.ravel()[places].astype(np.float32))
    return tuple(found)


def _seen(values: np.ndarray, spacing_mm: Triple, structures: int) -> dict[int, _Seen]:
    seen = {}
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    for value, box in enumerate(ndimage.find_objects(values, max_label=structures), start=1):
        if box is None:
            continue
        places = np.nonzero(values[box] == value)
        centre = [float(along.mean()) + part.start + 0.5 for along, part in zip(places, box, strict=True)]
        extent = [(part.stop - part.start) * mm for part, mm in zip(box, spacing_mm, strict=True)]
        relative = [middle / size for middle, size in zip(centre, values.shape, strict=True)]
        seen[value] = _Seen(len(places[0]) * voxel_ml, _triple(extent), _triple(relative))
    return seen


def _pieces(foreground: np.ndarray, spacing_mm: Triple) -> tuple[tuple[float, float], ...] | None:
    """Return volume in ml and longest side in mm of each connected piece; None where they are not sparse."""
    from autoseg.images.proposals import pieces_of

    if np.count_nonzero(foreground) > SPARSE_FRACTION * foreground.size:
        return None
    boxes, sizes = pieces_of(foreground)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    longest = ((boxes[:, 1] - boxes[:, 0]) * np.array(spacing_mm)).max(axis=1, initial=0.0)
    return tuple((float(size) * voxel_ml, float(side)) for size, side in zip(sizes, longest, strict=True))


def _all_pieces(measured: Sequence[_Measured]) -> PieceFacts | None:
    """Return what the pieces of all cases are like; None where the typical case does not hold several small ones."""
    holding = [item for item in measured if item.pieces is None or item.pieces]
    sparse = [item for item in holding if item.pieces]
    counts = [len(item.pieces or ()) for item in sparse]
    if 2 * len(sparse) <= len(holding) or float(np.median(counts)) < LEAST_PIECES:
        return None
    every = np.array([piece for item in sparse for piece in item.pieces or ()])
    shares = [sum(item.facts.voxels) / float(np.prod(item.facts.shape)) for item in holding]
    return PieceFacts(
        per_case=_triple(np.percentile(counts, (5, 50, 95))),
        volume_ml=_triple(np.percentile(every[:, 0], (5, 50, 95))),
        longest_mm=_triple(np.percentile(every[:, 1], (5, 50, 95))),
        image_fraction=float(np.median(shares)),
    )


def _intensity(channel: str, samples: Sequence[np.ndarray]) -> Intensity:
    """Return pooled statistics; a channel that no case measured inside the foreground gives zeros and a std of 1."""
    pooled = np.concatenate(samples)
    if not pooled.size:
        nothing = dict.fromkeys(("mean", "median", "minimum", "maximum", "p00_5", "p99_5"), 0.0)
        return Intensity(channel=channel, std=1.0, **nothing)
    low, median, high = np.percentile(pooled, (PERCENTILES[0], 50, PERCENTILES[1]))
    return Intensity(
        channel=channel,
        mean=float(pooled.mean(dtype=np.float64)),
        median=float(median),
        std=float(pooled.std(dtype=np.float64)),
        minimum=float(pooled.min()),
        maximum=float(pooled.max()),
        p00_5=float(low),
        p99_5=float(high),
    )


def _structure(name: str, value: int, measured: Sequence[_Measured]) -> StructureFacts:
    """Return what was seen of one structure; all zeros where no case holds it."""
    seen = [item.seen[value] for item in measured if value in item.seen]
    volumes = [item.volume_ml for item in seen] or [0.0]
    extents = [item.extent_mm for item in seen] or [(0.0, 0.0, 0.0)]
    centroids = [item.centroid for item in seen] or [(0.0, 0.0, 0.0)]
    return StructureFacts(
        name=name,
        annotated_cases=sum(value in item.annotated for item in measured),
        present_cases=len(seen),
        volume_ml=_triple(np.percentile(volumes, (5, 50, 95))),
        extent_mm=_triple(np.median(extents, 0)),
        centroid=_triple(np.median(centroids, 0)),
    )


def _triple(numbers: Sequence[float] | np.ndarray) -> Triple:
    z, y, x = (float(number) for number in numbers)
    return (z, y, x)
