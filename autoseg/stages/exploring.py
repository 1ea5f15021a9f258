"""Dataset -> Exploration: shapes, intensities and class sizes of every case that can be read; nothing is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.records.dataset import Case, Channel, Correction, Dataset
from autoseg.records.errors import UserError
from autoseg.records.exploration import QUANTILES, Exploration, ExploredCase, ExploredChannel
from autoseg.records.labels import Labels

# Every so many voxels is enough for quantiles of a case: two million fix them to three digits.
MOST_VOXELS = 2_000_000


@dataclass(frozen=True)
class _Task:
    case: Case
    channels: tuple[Channel, ...]
    labels: Labels
    corrections: tuple[Correction, ...]
    kept: Path | None


def explore(
    dataset: Dataset,
    *,
    workers: int | None = None,
    kept: Path | None = None,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> Exploration:
    """Return what every training case looks like; test cases are never looked at.

    Args:
        dataset: As imported.
        workers: Processes; None means as many as processors and memory admit.
        kept: Folder in which registrations are kept.
        tell: Called with (cases done, cases) after each.
    """
    from autoseg.compute.workers import map_cases, suited

    shared = (dataset.channels, dataset.labels, dataset.corrections, kept)
    tasks = [(case.id, _Task(case, *shared)) for case in dataset.cases]
    count = suited(workers, (path for case in dataset.cases for path in case.files()))
    found: dict[str, ExploredCase | UserError] = {}
    for id, result in map_cases(_look, tasks, workers=count, label="exploring"):
        found[id] = result
        tell(len(found), len(tasks))
    ordered = [(case.id, found[case.id]) for case in dataset.cases]
    return Exploration(
        dataset_digest=dataset.digest(),
        cases=tuple(item for _, item in ordered if isinstance(item, ExploredCase)),
        unread={id: str(item) for id, item in ordered if isinstance(item, UserError)},
    )


def _look(task: _Task) -> ExploredCase:
    from autoseg.images import cases, orientation

    case = task.case
    image = cases.read_image(case.images, task.channels, task.corrections, case=case.id, kept=task.kept)
    values = np.zeros(image.grid.shape, np.uint8)
    if case.labels is not None:
        read = cases.read_labels(case.labels, task.labels, image.grid, case=case.id, corrections=task.corrections)
        values = read.array
    # An odd step does not stay in one column of the scan.
    taken = image.array.reshape(len(image.array), -1)[:, :: (image.array[0].size // MOST_VOXELS) | 1]
    seen = taken[:, (taken != 0).any(axis=0)]
    here = [(index, item) for index, item in enumerate(task.channels) if item.name in case.images]
    oriented = orientation.orient_grid(image.grid)
    return ExploredCase(
        id=case.id,
        shape=oriented.shape,
        spacing_mm=oriented.spacing_mm,
        volumes_ml=_volumes(task, values, image.grid.voxel_ml()),
        channels=tuple(
            _channel(item.name, image.array[index], seen[index], values, task.labels) for index, item in here
        ),
    )


def _volumes(task: _Task, values: np.ndarray, voxel_ml: float) -> dict[str, float]:
    counts = np.bincount(values.ravel(), minlength=len(task.labels.structures) + 1)
    annotated = () if task.case.labels is None else task.case.annotated
    return {
        item.name: float(counts[item.value]) * voxel_ml
        for item in task.labels.structures
        if annotated is None or item.name in annotated
    }


def _channel(name: str, voxels: np.ndarray, seen: np.ndarray, values: np.ndarray, labels: Labels) -> ExploredChannel:
    there = [item for item in labels.structures if (values == item.value).any()]
    medians = ndimage.median(voxels, values, [item.value for item in there]) if there else ()
    return ExploredChannel(
        channel=name,
        quantiles=tuple(float(value) for value in np.quantile(seen if seen.size else [0.0], QUANTILES)),
        structure_medians={item.name: float(value) for item, value in zip(there, medians, strict=True)},
    )
