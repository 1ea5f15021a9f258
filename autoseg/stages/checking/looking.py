"""Looking at one case, exactly as training and prediction read it; runs in worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.records.check import Problem
from autoseg.records.dataset import Case, Channel, Correction, DicomSource, FileSource, Source
from autoseg.records.errors import UserError
from autoseg.records.geometry import Grid, Triple
from autoseg.records.labels import Labels
from autoseg.records.volumes import Image
from autoseg.stages.checking.rows import failure, make_problem, path_of
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.siblings import ScanFacts, facts_of

LARGEST_FIELD_MM = 2500.0
FEWEST_VALUES = 8
SAMPLED_VOXELS = 20_000


@dataclass(frozen=True)
class Task:
    """What a worker needs to look at one case."""

    case: Case
    channels: tuple[Channel, ...]
    labels: Labels
    corrections: tuple[Correction, ...]
    kept: Path | None = None


@dataclass(frozen=True)
class Look:
    """What is kept of one case.

    Attributes:
        problems: Of this case alone.
        digest: Of the image's voxels, or None when it could not be read.
        spacing_mm: Along (z, y, x), or None.
        notes: What the readers found odd or did to the image.
        volumes_ml: Volume of each structure, by name, of those that were annotated; None when there are no readable
            labels.
        facts: Data type and intensities of the first channel, by which scans of one person are told.
        extent_mm: Size of the field of view along (z, y, x), or None.
        sides_mm: Structure -> how far to the patient's left (LPS) its centre lies, of those that are there.
    """

    problems: tuple[Problem, ...] = ()
    digest: str | None = None
    spacing_mm: Triple | None = None
    notes: tuple[str, ...] = ()
    volumes_ml: Mapping[str, float] | None = None
    facts: ScanFacts | None = None
    extent_mm: Triple | None = None
    sides_mm: Mapping[str, float] | None = None


@dataclass(frozen=True)
class _Measured:
    """What is kept of a label map."""

    volumes_ml: Mapping[str, float]
    sides_mm: Mapping[str, float]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def look_at(task: Task) -> Look:
    """Return what one case shows: faults of its files, and the few numbers that cases are compared by."""
    image = _read_image(task)
    found = [image] if isinstance(image, Problem) else list(_image_warnings(task, image))
    grid = image.grid if isinstance(image, Image) else _header_grid(task)
    measured: _Measured | None = None
    if task.case.labels is None:
        found.append(_unlabelled(task.case))
    elif grid is not None:
        labels = _measure_labels(task, task.case.labels, grid, image)
        if isinstance(labels, Problem):
            found.append(labels)
        else:
            measured = labels
            found += [*_empty_labels(task, measured.volumes_ml), *measured.problems]
    return Look(
        problems=tuple(found),
        digest=_digest(image) if isinstance(image, Image) else None,
        spacing_mm=grid.spacing_mm if grid is not None else None,
        notes=(*(image.notes if isinstance(image, Image) else ()), *(measured.notes if measured else ())),
        volumes_ml=measured.volumes_ml if measured else None,
        facts=_facts(task, image) if isinstance(image, Image) else None,
        extent_mm=grid.extent_mm() if grid is not None else None,
        sides_mm=measured.sides_mm if measured else None,
    )


def _read_image(task: Task) -> Image | Problem:
    from autoseg.images.cases import read_image

    try:
        return read_image(task.case.images, task.channels, task.corrections, case=task.case.id, kept=task.kept)
    except UserError as error:
        return failure(task.case.id, error)


def _header_grid(task: Task) -> Grid | None:
    """Return the grid of the first channel's header, so that labels are checked even when the voxels are bad."""
    from autoseg.images.files import read_header

    source = next((task.case.images[c.name] for c in task.channels if c.name in task.case.images), None)
    try:
        return read_header(Path(source.path)).grid if isinstance(source, FileSource) else None
    except UserError:
        return None


def _facts(task: Task, image: Image) -> ScanFacts | None:
    from autoseg.images.files import read_header

    index = next((number for number, c in enumerate(task.channels) if c.name in task.case.images), 0)
    source = task.case.images.get(task.channels[index].name)
    if source is None or image.array[index].min() == image.array[index].max():
        return None  # what is constant has a warning of its own
    if isinstance(source, DicomSource):  # every series of a scanner is stored alike
        return facts_of(image.array[index], dtype=str(image.array.dtype))
    return facts_of(image.array[index], dtype=read_header(Path(source.files()[0])).dtype)


def _measure_labels(task: Task, source: Source, grid: Grid, image: Image | Problem) -> _Measured | Problem:
    """Return volume and side of each annotated structure, and what is odd about where they lie."""
    from autoseg.images.cases import read_labels

    try:
        read = read_labels(source, task.labels, grid, case=task.case.id, corrections=task.corrections)
    except UserError as error:
        return failure(task.case.id, error)
    array, structures = read.array, task.labels.structures
    counts = np.bincount(array.ravel(), minlength=len(structures) + 1)
    annotated = task.case.annotated
    volumes = {
        item.name: float(counts[item.value]) * grid.voxel_ml()
        for item in task.labels.structures
        if annotated is None or item.name in annotated
    }
    sides = _sides(array, grid, len(structures))
    return _Measured(
        volumes_ml=volumes,
        sides_mm={item.name: sides[item.value] for item in structures if item.value in sides},
        problems=tuple(_labels_outside(task, array, image)) if isinstance(image, Image) else (),
        notes=read.notes,
    )


def _sides(array: np.ndarray, grid: Grid, structures: int) -> dict[int, float]:
    """Return value -> the x (LPS, mm) of its centre."""
    from scipy import ndimage

    row, found = grid.affine()[0], {}
    for value, box in enumerate(ndimage.find_objects(array, max_label=structures), start=1):
        if box is not None:
            places = np.nonzero(array[box] == value)
            centre = [float(along.mean()) + part.start for along, part in zip(places, box, strict=True)]
            found[value] = float(row[:3] @ centre + row[3])
    return found


def _labels_outside(task: Task, array: np.ndarray, image: Image) -> Iterator[Problem]:
    """Warn of labels where the image is cropped: they are never seen in training, and missed in every score."""
    from autoseg.images.regrid import nonzero_box

    box = nonzero_box(image.array)
    lost = int(np.count_nonzero(array)) - int(np.count_nonzero(array[box.slices()]))
    if lost and image.array.any():
        yield make_problem(
            "warning", "labels_outside", f"{lost:,} labelled voxels lie where the image is 0 or cropped away",
            fix="Check that image and labels belong together; import without --crop-foreground if that cut them.",
            case=task.case.id, file=path_of(task.case.labels),
        )  # fmt: skip


def _image_warnings(task: Task, image: Image) -> Iterator[Problem]:
    for channel, voxels in zip(task.channels, image.array, strict=True):
        source = task.case.images.get(channel.name)
        if source is None:
            continue
        low, high = float(voxels.min()), float(voxels.max())
        if low != high:
            yield from _few_values(task, channel, voxels)
            continue
        code, what = ("zero_image", "is zero everywhere") if low == 0 else ("constant_image", f"is {low:g} everywhere")
        yield make_problem(
            "warning", code, f"channel {channel.name} {what}: there is nothing to see",
            fix="Look at the scan; leave the case out with --skip if it is broken.",
            case=task.case.id, file=path_of(source),
        )  # fmt: skip
    extent = image.grid.extent_mm()
    if max(extent) > LARGEST_FIELD_MM:
        yield make_problem(
            "warning", "odd_field_of_view", f"the field of view is {max(extent) / 1000:.1f} m long",
            fix="Check the spacing in the header; it should be in mm.", case=task.case.id,
        )  # fmt: skip


def _few_values(task: Task, channel: Channel, voxels: np.ndarray) -> Iterator[Problem]:
    """Warn of an image that holds as few values as labels do; a sample tells most others in no time."""
    sample = voxels.ravel()[:: max(1, voxels.size // SAMPLED_VOXELS)]
    if len(np.unique(sample)) > FEWEST_VALUES or (count := len(np.unique(voxels))) > FEWEST_VALUES:
        return
    yield make_problem(
        "warning", "few_values", f"channel {channel.name} holds only {count} different values, as labels do",
        fix="Look at the file: a label map or a mask in the place of the image?",
        case=task.case.id, file=path_of(task.case.images[channel.name]),
    )  # fmt: skip


def _empty_labels(task: Task, volumes: Mapping[str, float]) -> list[Problem]:
    """Warn of a label map without a voxel, and of masks that are there but empty."""
    empty = [name for name, volume in volumes.items() if volume == 0]
    fix = "Nothing to do if that is so: the case is kept and teaches where there is none."
    if len(empty) == len(volumes):
        file = path_of(task.case.labels)
        what = "no structure is labelled"
        return [make_problem("warning", "empty_labels", what, fix=fix, case=task.case.id, file=file)]
    if empty and task.case.annotated is not None:
        what = f"masks without a voxel of their own (empty, or covered by others): {enumerate_cases(empty)}"
        return [make_problem("warning", "empty_mask", what, fix=fix, case=task.case.id)]
    return []


def _unlabelled(case: Case) -> Problem:
    fix = "Add them, or leave the case out with --skip."
    return make_problem("error", "missing_labels", "there are no labels", fix=fix, case=case.id)


def _digest(image: Image) -> str:
    summary = hashlib.sha256(str(image.array.shape).encode())
    summary.update(np.ascontiguousarray(image.array).data)
    return summary.hexdigest()
