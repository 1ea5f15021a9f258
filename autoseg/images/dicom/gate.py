"""The geometry gate: slices become a grid only if they are one stack of equal, equally spaced, parallel pictures.

What SimpleITK does silently is said or refused here: missing slices (it reads them as a larger spacing), scouts (they
become a slice of the stack), a gantry tilt (its shear is dropped, and the head leans).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.images import header as headers
from autoseg.images.dicom import multiframe
from autoseg.images.dicom.facts import SliceFacts, read_dataset
from autoseg.images.header import as_matrix, check_grid, nearest_rotation
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid

SAME_DIRECTION = 1e-3
SAME_PLACE_MM = 1e-2
STEP_TOLERANCE = 0.1  # of a step
ROUNDED_MM = 0.11  # positions are often rounded to a tenth of a millimetre; of thin slices at most a quarter of a step
TILT_PIXELS = 0.1  # a drift below this, over the whole stack, is rounding
MOST_SCOUTS_FRACTION = 0.25


@dataclass(frozen=True)
class Stack:
    """Slices in order along the normal of their plane, and the grid that they fill.

    Attributes:
        slices: From z = 0 up.
        grid: Without tilt: of the voxels as stored. With tilt: upright, and as tall as the leaning stack.
        drift_pixels: How far each slice has to move along (y, x), in pixels, to stand upright; None without tilt.
        notes: What was left out or is odd, for people.
    """

    slices: tuple[SliceFacts, ...]
    grid: Grid
    drift_pixels: np.ndarray | None
    notes: tuple[str, ...]


def build(slices: Sequence[SliceFacts]) -> Stack:
    """Return the stack that the files of one series make.

    Raises:
        DataError: A slice is missing or doubled (it is named), the slices differ in size, spacing or orientation, the
            steps differ, a multi-frame file does not say where its frames lie, a file is in colour, or there is
            nothing but scouts.
    """
    kept, notes = _without_scouts(multiframe.taken_apart(slices))
    _require_plain(kept)
    kept, more = _one_orientation(kept)
    notes += more
    _require_alike(kept)
    columns = _columns(kept[0])
    kept = sorted(kept, key=lambda item: _along(item, columns))
    kept, more = _without_copies(kept, columns)
    notes += more
    step = _step(kept, columns)
    return _stack(kept, columns, step, notes)


def _without_scouts(slices: list[SliceFacts]) -> tuple[list[SliceFacts], list[str]]:
    scouts = [item for item in slices if item.is_scout]
    kept = [item for item in slices if not item.is_scout]
    if not kept:
        raise DataError(
            f"the series holds nothing but {len(scouts)} scouts",
            file=slices[0].path,
            fix="Choose the series of slices.",
            code="only_scouts",
        )
    return kept, [f"{_files(scouts)} left out: scout"] if scouts else []


def _require_plain(slices: Sequence[SliceFacts]) -> None:
    for item in slices:
        if item.samples > 1:
            what, fix = "is a colour picture, not a scan", "Leave it out of the series"
        elif not item.orientation or not item.position_mm or not item.spacing_mm:
            missing = [
                word
                for word, value in (
                    ("ImageOrientationPatient", item.orientation),
                    ("ImagePositionPatient", item.position_mm),
                    ("PixelSpacing", item.spacing_mm),
                )
                if not value
            ]
            what, fix = f"does not say where it lies: {', '.join(missing)} missing", "Export it again from its archive"
        else:
            continue
        raise DataError(what, file=item.path, fix=f"{fix}.", code="no_slice")


def _one_orientation(slices: list[SliceFacts]) -> tuple[list[SliceFacts], list[str]]:
    """Keep the stack with most slices; a few of another orientation or size are scouts, many are another stack."""
    stacks: list[list[SliceFacts]] = []
    for item in slices:
        for stack in stacks:
            if item.size == stack[0].size and np.allclose(
                item.orientation or (), stack[0].orientation or (), atol=SAME_DIRECTION
            ):
                stack.append(item)
                break
        else:
            stacks.append([item])
    stacks.sort(key=len, reverse=True)
    others = [item for stack in stacks[1:] for item in stack]
    if len(others) > MOST_SCOUTS_FRACTION * len(slices):
        raise DataError(
            f"the series holds {len(stacks)} stacks that differ in orientation or size "
            f"({', '.join(str(len(stack)) for stack in stacks[:5])} slices)",
            file=others[0].path,
            fix="Put each stack into a series of its own.",
            code="several_orientations",
        )
    return stacks[0], [f"{_files(others)} left out: another orientation or size than the stack"] if others else []


def _require_alike(slices: Sequence[SliceFacts]) -> None:
    first = slices[0]
    for item in slices:
        if not np.allclose(item.spacing_mm or (), first.spacing_mm or (), rtol=1e-3):
            raise DataError(
                f"has pixels of {_words(item.spacing_mm)} mm, {first.name} of {_words(first.spacing_mm)}",
                file=item.path,
                fix="Export the series again, or leave the file out.",
                code="mixed_spacing",
            )


def _columns(item: SliceFacts) -> np.ndarray:
    """Return the directions of the array's x, y and z axes as the columns of a right-handed (3, 3) matrix."""
    row, column = np.reshape(item.orientation or (0.0,) * 6, (2, 3)).astype(float)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    normal = np.cross(row, column)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or np.linalg.norm(normal) < 0.9:
        raise DataError(
            f"has no valid orientation: {_words(item.orientation)}",
            file=item.path,
            fix="Export it again from its archive.",
            code="bad_geometry",
        )
    normal = normal / np.linalg.norm(normal)
    rotation, _ = nearest_rotation(np.stack([row / lengths[0], column / lengths[1], normal], axis=1), file=item.path)
    return rotation


def _along(item: SliceFacts, columns: np.ndarray) -> float:
    return float(np.dot(columns[:, 2], item.position_mm or ()))


def _without_copies(slices: list[SliceFacts], columns: np.ndarray) -> tuple[list[SliceFacts], list[str]]:
    """Drop files that are there twice; refuse two pictures of one place."""
    kept: list[SliceFacts] = []
    copies: list[SliceFacts] = []
    clashes: list[tuple[SliceFacts, SliceFacts]] = []
    for item in slices:
        before = kept[-1] if kept else None
        if before is None or _along(item, columns) - _along(before, columns) > SAME_PLACE_MM:
            kept.append(item)
        elif _same_content(item, before):
            copies.append(item)
        else:
            clashes.append((before, item))
    if clashes:
        raise _clash(clashes, len(slices), columns)
    return kept, [f"{_files(copies)} left out: a copy of another slice"] if copies else []


def _clash(clashes: Sequence[tuple[SliceFacts, SliceFacts]], count: int, columns: np.ndarray) -> DataError:
    first, second = clashes[0]
    places = Counter(round(_along(item, columns), 1) for _, item in clashes)
    everywhere = 2 * len(places) >= count - len(clashes)
    fix = "They look like several phases, echoes or times in one series: put each into a series of its own."
    return DataError(
        f"{len(places)} places have more than one slice; {first.name} and {second.name} "
        f"both lie at {_along(first, columns):.2f} mm",
        file=second.path,
        fix=fix if everywhere else "Remove the one that does not belong to the series.",
        code="duplicate_slice",
    )


def _same_content(one: SliceFacts, other: SliceFacts) -> bool:
    if one.frame is not None or other.frame is not None:
        try:
            mine, theirs = (multiframe.pixels(item) for item in (one, other))
        except (AssertionError, ValueError):  # a file of frames and one of a slice, or undecodable: said when read
            return False
        return mine.shape == theirs.shape and np.array_equal(mine, theirs)
    stored = [read_dataset(item.path, voxels=True).get("PixelData") for item in (one, other)]
    return stored[0] is not None and stored[0] == stored[1]


def _step(slices: Sequence[SliceFacts], columns: np.ndarray) -> float:
    """Return the distance of slices along the normal.

    Raises:
        DataError: Steps differ: whole slices are missing (they are named by their neighbours), or spacing varies.
    """
    if len(slices) == 1:
        if slices[0].thickness_mm is None:
            raise headers.unknown_spacing(slices[0].path, "one slice, and neither SliceThickness nor a second slice")
        return slices[0].thickness_mm
    places = np.array([_along(item, columns) for item in slices])
    steps = np.diff(places)
    usual = float(np.median(steps))
    even = (places[-1] - places[0]) / (len(places) - 1)
    off = np.abs(places - places[0] - even * np.arange(len(places))).max()
    if off <= max(STEP_TOLERANCE * even, min(ROUNDED_MM, 0.25 * even)):
        return float(even)
    counts = np.rint(steps / usual)
    gaps = np.flatnonzero(counts >= 2)
    if gaps.size and np.abs(steps / usual - counts).max() <= STEP_TOLERANCE:
        raise _missing(slices, places, gaps, counts, usual)
    raise DataError(
        f"the steps between slices vary from {steps.min():.3g} to {steps.max():.3g} mm",
        file=slices[int(np.argmax(np.abs(steps - usual))) + 1].path,
        fix="Export an evenly spaced series, or resample it to one.",
        code="uneven_slices",
    )


def _missing(
    slices: Sequence[SliceFacts], places: np.ndarray, gaps: np.ndarray, counts: np.ndarray, step: float
) -> DataError:
    total = int((counts[gaps] - 1).sum())
    named = "; ".join(
        f"{int(counts[gap]) - 1} between {places[gap]:.2f} mm ({slices[gap].name}) and {places[gap + 1]:.2f} mm "
        f"({slices[gap + 1].name})"
        for gap in gaps[:3]
    )
    more = f"; and {len(gaps) - 3} more gaps" if len(gaps) > 3 else ""
    return DataError(
        f"{total} slices are missing, with steps of {step:.3g} mm: {named}{more}",
        file=slices[0].path.parent,
        fix="Export the whole series again; autoseg makes no slices up.",
        code="missing_slice",
    )


def _stack(slices: Sequence[SliceFacts], columns: np.ndarray, step: float, notes: list[str]) -> Stack:
    rows, width = slices[0].size
    dy, dx = slices[0].spacing_mm or (0.0, 0.0)
    positions = np.array([item.position_mm for item in slices])
    inplane = (positions - positions[0]) @ columns[:, [1, 0]] / (dy, dx)  # drift along (y, x), in pixels
    origin, drift, shape = positions[0], None, (len(slices), rows, width)
    if np.abs(inplane).max() > TILT_PIXELS:
        drift = _drift(slices, inplane)
        low, high = np.floor(drift.min(axis=0) + 1e-6), np.ceil(drift.max(axis=0) - 1e-6)
        origin = origin + columns[:, [1, 0]] @ (low * (dy, dx))
        shape = (len(slices), rows + int(high[0] - low[0]), width + int(high[1] - low[1]))
        notes = [*notes, _tilt(drift * (dy, dx), step)]
        drift = drift - low
    x, y, z = (float(value) + 0.0 for value in origin)
    step = float(f"{step:.7g}")  # positions are decimal texts: 1 rather than 0.9999999999999929
    grid = Grid(shape=shape, spacing_mm=(step, dy, dx), origin_mm=(x, y, z), direction=as_matrix(columns))
    return Stack(tuple(slices), check_grid(grid, file=slices[0].path), drift, tuple(notes))


def _drift(slices: Sequence[SliceFacts], inplane: np.ndarray) -> np.ndarray:
    """Return the drift as a straight line, or refuse one that is not straight."""
    even = np.linspace(0.0, 1.0, len(slices))[:, None] * inplane[-1]
    off = np.abs(inplane - even).max(axis=1)
    if off.max() > 0.5:
        worst = int(np.argmax(off))
        raise DataError(
            f"lies {off[worst]:.1f} pixels beside the line through the other slices",
            file=slices[worst].path,
            fix="Export the series again, or leave the file out.",
            code="not_collinear",
        )
    return np.asarray(even)


def _tilt(drift_mm: np.ndarray, step: float) -> str:
    degrees = math.degrees(math.atan2(float(np.linalg.norm(drift_mm[-1])), step * (len(drift_mm) - 1)))
    return f"its gantry was tilted by {degrees:.1f} degrees; the slices were moved upright (linear interpolation)"


def _files(slices: Sequence[SliceFacts], *, most: int = 3) -> str:
    names = ", ".join(item.name for item in slices[:most])
    more = f" and {len(slices) - most} more" if len(slices) > most else ""
    return f"{len(slices)} of its files ({names}{more})"


def _words(numbers: Sequence[float] | None) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers or ()) + ")"
