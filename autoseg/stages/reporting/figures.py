"""Figures as inline images: box plots, and overlays of truth and prediction."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.images.boxes import box_of
from autoseg.records.volumes import LabelMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, TRUTH = "#1f2933", "#e4e7eb", "#ffffff"
MARGIN_MM = 15.0
INTERVAL = "#e8590c"
PLANES = ("axial", "coronal", "sagittal")


def boxes(
    values: Mapping[str, Sequence[float]],
    *,
    title: str,
    centres: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
) -> str:
    """Return a box plot with every case as a dot, structures from worst to best median.

    Args:
        values: Structure -> a figure a case.
        title: Of the plot.
        centres: Structure -> mean or median, drawn as a diamond.
        intervals: Structure -> its 95 % interval over patients, drawn through the diamond.
    """
    kept = {name: [v for v in row if np.isfinite(v)] for name, row in values.items()}
    names = sorted((name for name in kept if kept[name]), key=lambda name: float(np.median(kept[name])))
    figure = blank(9, max(1.6, 0.28 * len(names) + 0.9))
    axes = figure.subplots()
    if names:
        axes.boxplot([kept[name] for name in names], orientation="horizontal", widths=0.6, showfliers=False)
    rng = np.random.default_rng(0)
    for row, name in enumerate(names, start=1):
        height = row + rng.uniform(-0.18, 0.18, len(kept[name]))
        axes.scatter(kept[name], height, s=5, color="#2f6fed", alpha=0.45, linewidths=0)
        if np.isfinite(centres.get(name, np.nan)):
            axes.scatter([centres[name]], [row], s=26, marker="D", color=INTERVAL, linewidths=0, zorder=4)
        low, high = intervals.get(name, (np.nan, np.nan))
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [row, row], color=INTERVAL, linewidth=2.2, zorder=4, solid_capstyle="butt")
    axes.set_yticks(range(1, len(names) + 1), [words(name) for name in names], fontsize=8)
    plain(axes, title)
    return inline(figure)


def overlay(image: np.ndarray, truth: LabelMap, prediction: LabelMap, *, focus: np.ndarray | None = None) -> str:
    """Return three planes through the truth's middle: image, truth as white lines, prediction as coloured lines.

    Args:
        image: One channel, (Z, Y, X), with axes along the patient's (LPS).
        truth: Inside values on the image's grid.
        prediction: The same.
        focus: Bool, (Z, Y, X): what the planes go through instead, and what is left in the picture with a margin.
    """
    if focus is not None and focus.any():
        part = _around(focus, truth.grid.spacing_mm)
        image, focus = image[part], focus[part]
        truth, prediction = (LabelMap(item.array[part], item.grid) for item in (truth, prediction))
    drawn_first = truth.array if (truth.array > 0).any() else prediction.array
    centre = _centre(drawn_first if focus is None else focus)
    low, high = np.percentile(image, (0.5, 99.5))
    spacing = truth.grid.spacing_mm
    planes = [axis for axis in range(3) if min(size for other, size in enumerate(image.shape) if other != axis) > 1]
    figure = blank(3.1 * len(planes), 3.2)
    grid = figure.subplots(1, len(planes), squeeze=False)[0]
    for axes, axis in zip(grid, planes, strict=True):
        rows, columns = (spacing[other] for other in range(3) if other != axis)
        picture, drawn, found = (_cut(array, axis, centre) for array in (image, truth.array, prediction.array))
        aspect = rows / columns
        axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        for value in np.unique(found[found > 0]):
            axes.contour(found == value, [0.5], colors=[colour(int(value) - 1)], linewidths=1.2)
        for value in np.unique(drawn[drawn > 0]):
            axes.contour(drawn == value, [0.5], colors=[TRUTH], linewidths=0.7, linestyles="dotted")
        axes.set_axis_off()
        axes.set_title(PLANES[axis], fontsize=8, color=INK)
    return inline(figure)


def heat(image: np.ndarray, field: np.ndarray, prediction: LabelMap) -> str:
    """Return the three planes with most of what is looked at: image, map as warm colours, prediction as lines.

    Args:
        image: One channel, (Z, Y, X), axes along the patient's.
        field: 0 to 1 on the same grid; it is seen through where it is low.
        prediction: On the same grid.
    """
    hot = field > 0.5
    centre = _centre(hot if hot.any() else prediction.array > 0)
    low, high = np.percentile(image, (0.5, 99.5))
    planes = [axis for axis in range(3) if min(size for other, size in enumerate(image.shape) if other != axis) > 1]
    figure = blank(3.1 * len(planes), 3.2)
    for axes, axis in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        rows, columns = (prediction.grid.spacing_mm[other] for other in range(3) if other != axis)
        picture, warm, found = (_cut(array, axis, centre) for array in (image, field, prediction.array))
        aspect = rows / columns
        axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        axes.imshow(warm, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * np.sqrt(np.clip(warm, 0, 1)), aspect=aspect)
        for value in np.unique(found[found > 0]):
            axes.contour(found == value, [0.5], colors=[colour(int(value) - 1)], linewidths=0.8)
        axes.set_axis_off()
        axes.set_title(PLANES[axis], fontsize=8, color=INK)
    return inline(figure)


def outlines(
    fixed: np.ndarray, layers: Sequence[np.ndarray], spacing_mm: Sequence[float], *, titles: Sequence[str]
) -> str:
    """Return a row of planes a layer: the first channel in grey, and the edges of the other one as lines upon it.

    Args:
        fixed: (Z, Y, X), axes along the patient's.
        layers: The other channel on the same grid, once a row.
        spacing_mm: Along (z, y, x).
        titles: One a layer.
    """
    low, high = np.percentile(fixed, (0.5, 99.5))
    planes = [axis for axis in range(3) if min(size for other, size in enumerate(fixed.shape) if other != axis) > 1]
    figure = blank(2.4 * len(planes), 2.5 * len(layers))
    grid = figure.subplots(len(layers), len(planes), squeeze=False)
    for row, layer, title in zip(grid, layers, titles, strict=True):
        dark, bright = np.percentile(layer, (1, 99))
        levels = np.unique(dark + np.array([0.3, 0.7]) * (bright - dark))
        for axes, axis in zip(row, planes, strict=True):
            rows, columns = (spacing_mm[other] for other in range(3) if other != axis)
            picture, lines = (_cut(array, axis, [size // 2 for size in fixed.shape]) for array in (fixed, layer))
            axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=rows / columns)
            between = [level for level in levels if lines.min() < level < lines.max()]
            if between:
                axes.contour(lines, between, colors=[colour(1), colour(6)][: len(between)], linewidths=0.5)
            axes.set_axis_off()
            axes.set_title(f"{title}, {PLANES[axis]}", fontsize=8, color=INK)
    return inline(figure)


def _around(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Return the box around a mask with a margin of its own half size, and of 15 mm at least."""
    box = []
    for part, mm in zip(box_of(mask) or (), spacing_mm, strict=True):
        margin = max((part.stop - part.start) // 2, round(MARGIN_MM / mm), 1)
        box.append(slice(max(0, part.start - margin), part.stop + margin))
    return tuple(box)


def _cut(array: np.ndarray, axis: int, centre: Sequence[int]) -> np.ndarray:
    """Return one plane as a radiologist looks at it: the head up, the patient's left on the right."""
    plane = np.take(array, centre[axis], axis=axis)
    return plane if axis == 0 else plane[::-1]


def _centre(labels: np.ndarray) -> tuple[int, int, int]:
    """Return the plane with the most labelled voxels along each axis, or the middle."""
    found = labels > 0
    if not found.any():
        z, y, x = (size // 2 for size in labels.shape)
        return (z, y, x)
    counts = [found.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    z, y, x = (int(count.argmax()) for count in counts)
    return (z, y, x)


def colour(index: int) -> str:
    """Return the colour of a structure or a run, by its number from 0."""
    wheel = (
        "#2f6fed",
        "#e8590c",
        "#2b8a3e",
        "#ae3ec9",
        "#e03131",
        "#0c8599",
        "#f08c00",
        "#5f3dc4",
        "#66a80f",
        "#c2255c",
    )
    return wheel[index % len(wheel)]


def blank(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches."""
    # The object interface keeps no global state, so a report can be written beside a training.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, title: str) -> None:
    """Give axes a title and a quiet look."""
    axes.set_title(words(title), fontsize=9, color=INK, loc="left")
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def words(text: str) -> str:
    """Return a name from a file as it stands: no control character, and no formula between dollar signs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("$", r"\$")


def inline(figure: Figure) -> str:
    """Return a figure as the address of an image that holds all of it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the table beside the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
