"""The data in tables and figures: what `autoseg explore` shows, and the same section of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.images import orientation
from autoseg.images.cases import read_image
from autoseg.records.check import CheckReport
from autoseg.records.dataset import Dataset
from autoseg.records.errors import UserError
from autoseg.records.exploration import Exploration
from autoseg.records.volumes import LabelMap
from autoseg.stages.evaluating.truths import truth
from autoseg.stages.reporting import data_figures, figures, oddness

MOST_ATTRIBUTE_VALUES = 12


@dataclass(frozen=True)
class Spread:
    """One figure over cases: smallest, median, largest."""

    name: str
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class ClassSize:
    """One structure over the cases where it was annotated.

    Attributes:
        share: Of all labelled volume, 0 to 1.
    """

    name: str
    annotated: int
    present: int
    low_ml: float
    median_ml: float
    high_ml: float
    share: float


@dataclass(frozen=True)
class Picture:
    """One case in three planes."""

    title: str
    picture: str


@dataclass(frozen=True)
class DataSection:
    """Everything that `data.html.j2` shows."""

    dataset: Dataset
    exploration: Exploration
    problems: CheckReport | None
    spreads: tuple[Spread, ...]
    sizes: tuple[ClassSize, ...]
    attributes: tuple[tuple[str, str], ...]
    together: str
    always: bool
    geometry: str
    volumes: str
    intensities: tuple[tuple[str, str], ...]
    odd: tuple[oddness.Odd, ...]
    pictures: tuple[Picture, ...]


def describe(
    dataset: Dataset, found: Exploration, problems: CheckReport | None, *, kept: Path, overlays: int = 4
) -> DataSection:
    """Return what is shown of a data set.

    Args:
        dataset: As imported.
        found: What its cases look like.
        problems: What the last check found, or None.
        kept: Folder in which registrations are kept.
        overlays: How many cases are shown at most.
    """
    names = [item.name for item in dataset.labels.structures]
    counts = data_figures.co_occurrence(found, names)
    channels = [item.name for item in dataset.channels]
    return DataSection(
        dataset=dataset,
        exploration=found,
        problems=problems,
        spreads=tuple(_spreads(found)),
        sizes=tuple(_sizes(found, names)),
        attributes=tuple(_attributes(dataset)),
        together="" if data_figures.nothing_to_tell(counts) else data_figures.together(counts, names),
        always=data_figures.nothing_to_tell(counts),
        geometry=data_figures.geometry(found),
        volumes=data_figures.volumes(found, names),
        intensities=tuple((name, data_figures.intensities(found, name)) for name in channels),
        odd=tuple(oddness.odd_cases(found)),
        pictures=tuple(_pictures(dataset, found, kept, overlays)),
    )


def _spreads(found: Exploration) -> list[Spread]:
    if not found.cases:
        return []
    shapes = np.array([case.shape for case in found.cases], float)
    spacing = np.array([case.spacing_mm for case in found.cases])
    columns = {
        **{f"voxels along {axis}": shapes[:, k] for k, axis in enumerate(oddness.AXES)},
        **{f"spacing along {axis}, mm": spacing[:, k] for k, axis in enumerate(oddness.AXES)},
        **{f"field of view along {axis}, mm": (shapes * spacing)[:, k] for k, axis in enumerate(oddness.AXES)},
        "longest over shortest edge of a voxel": spacing.max(axis=1) / spacing.min(axis=1),
        "million voxels": shapes.prod(axis=1) / 1e6,
    }
    return [
        Spread(name, float(values.min()), float(np.median(values)), float(values.max()))
        for name, values in columns.items()
    ]


def _sizes(found: Exploration, names: Sequence[str]) -> list[ClassSize]:
    everything = sum(sum(case.volumes_ml.values()) for case in found.cases)
    rows = []
    for name in names:
        annotated = [case.volumes_ml[name] for case in found.cases if name in case.volumes_ml]
        there = [volume for volume in annotated if volume > 0]
        low, median, high = np.percentile(there, (5, 50, 95)) if there else (np.nan,) * 3
        share = sum(there) / everything if everything else 0.0
        rows.append(ClassSize(name, len(annotated), len(there), float(low), float(median), float(high), share))
    return rows


def _attributes(dataset: Dataset) -> list[tuple[str, str]]:
    """Return attribute -> how many cases have which value, the commonest first."""
    rows = []
    for name in dict.fromkeys(name for case in dataset.cases for name in case.attributes):
        counts = Counter(case.attributes.get(name, "not known") for case in dataset.cases)
        words = [f"{value}: {count}" for value, count in counts.most_common(MOST_ATTRIBUTE_VALUES)]
        more = len(counts) - len(words)
        rows.append((name, ", ".join(words) + (f", and {more} more" if more else "")))
    return rows


def _pictures(dataset: Dataset, found: Exploration, kept: Path, most: int) -> list[Picture]:
    """Return the most usual case and the oddest ones; without a comparison the first cases."""
    order = oddness.ranked(found)
    odd = [item.case for item in order if item.deviations > oddness.LIMIT]
    usual = [item.case for item in reversed(order)] or [case.id for case in found.cases]
    spare = usual[len(usual) // 2 :: -1] if order else usual[1:]
    shown = dict.fromkeys(usual[: min(1, most)], "usual" if order else "")
    shown |= dict.fromkeys(odd[: max(0, most - 1)], "odd")
    for id in spare:
        if len(shown) >= min(most, len(found.cases)):
            break
        shown.setdefault(id, "in between" if order else "")
    pictures = [(id, title, _picture(dataset, id, kept)) for id, title in shown.items()]
    return [Picture(f"{title + ': ' if title else ''}{id}", picture) for id, title, picture in pictures if picture]


def _picture(dataset: Dataset, id: str, kept: Path) -> str:
    case = dataset.case(id)
    try:
        image = read_image(case.images, dataset.channels, dataset.corrections, case=id, kept=kept)
        drawn = None if case.labels is None else truth(dataset, case)
    except UserError:
        return ""  # it was readable a moment ago; the check says what is wrong
    array, grid = orientation.orient(image.array, image.grid)
    empty = np.zeros(grid.shape, np.uint8)
    labels = empty if drawn is None else orientation.orient(drawn.array, image.grid)[0]
    return figures.overlay(array[0], LabelMap(empty, grid), LabelMap(labels, grid))
