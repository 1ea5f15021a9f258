"""Figures as inline images: curves, box plots, and overlays of truth and prediction."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.records.volumes import LabelMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, TRUTH = "#1f2933", "#e4e7eb", "#ffffff"
PLANES = ("axial", "coronal", "sagittal")


def curves(histories: Mapping[str, Sequence[tuple[int, float, float]]]) -> str:
    """Return the training curves of several runs as an inline image.

    Args:
        histories: Run -> (step, loss, learning rate) a line.
    """
    figure = _figure(9, 3.2)
    loss, rate = figure.subplots(1, 2)
    for index, (name, rows) in enumerate(histories.items()):
        steps, losses, rates = zip(*rows, strict=True) if rows else ((), (), ())
        loss.plot(steps, losses, color=_colour(index), linewidth=1.1, label=name)
        rate.plot(steps, rates, color=_colour(index), linewidth=1.1)
    for axes, title in ((loss, "training loss"), (rate, "learning rate")):
        _plain(axes, title)
        axes.set_xlabel("step")
    if len(histories) <= 12:
        loss.legend(fontsize=6, frameon=False)
    return _inline(figure)


def boxes(values: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Return a box plot with every case as a dot, structures from worst to best median."""
    kept = {name: [v for v in row if np.isfinite(v)] for name, row in values.items()}
    names = sorted((name for name in kept if kept[name]), key=lambda name: float(np.median(kept[name])))
    figure = _figure(9, max(1.6, 0.28 * len(names) + 0.9))
    axes = figure.subplots()
    if names:
        axes.boxplot([kept[name] for name in names], orientation="horizontal", widths=0.6, showfliers=False)
    rng = np.random.default_rng(0)
    for row, name in enumerate(names, start=1):
        height = row + rng.uniform(-0.18, 0.18, len(kept[name]))
        axes.scatter(kept[name], height, s=5, color="#2f6fed", alpha=0.45, linewidths=0)
    axes.set_yticks(range(1, len(names) + 1), [_words(name) for name in names], fontsize=8)
    _plain(axes, title)
    return _inline(figure)


def overlay(image: np.ndarray, truth: LabelMap, prediction: LabelMap) -> str:
    """Return three planes through the truth's middle: image, truth as white lines, prediction as coloured lines.

    Args:
        image: One channel, (Z, Y, X), with axes along the patient's (LPS).
        truth: Inside values on the image's grid.
        prediction: The same.
    """
    centre = _centre(truth.array if (truth.array > 0).any() else prediction.array)
    low, high = np.percentile(image, (0.5, 99.5))
    spacing = truth.grid.spacing_mm
    planes = [axis for axis in range(3) if min(size for other, size in enumerate(image.shape) if other != axis) > 1]
    figure = _figure(3.1 * len(planes), 3.2)
    grid = figure.subplots(1, len(planes), squeeze=False)[0]
    for axes, axis in zip(grid, planes, strict=True):
        rows, columns = (spacing[other] for other in range(3) if other != axis)
        picture, drawn, found = (_cut(array, axis, centre) for array in (image, truth.array, prediction.array))
        aspect = rows / columns
        axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        for value in np.unique(found[found > 0]):
            axes.contour(found == value, [0.5], colors=[_colour(int(value) - 1)], linewidths=1.2)
        for value in np.unique(drawn[drawn > 0]):
            axes.contour(drawn == value, [0.5], colors=[TRUTH], linewidths=0.7, linestyles="dotted")
        axes.set_axis_off()
        axes.set_title(PLANES[axis], fontsize=8, color=INK)
    return _inline(figure)


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
    figure = _figure(2.4 * len(planes), 2.5 * len(layers))
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
                axes.contour(lines, between, colors=[_colour(1), _colour(6)][: len(between)], linewidths=0.5)
            axes.set_axis_off()
            axes.set_title(f"{title}, {PLANES[axis]}", fontsize=8, color=INK)
    return _inline(figure)


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


def _colour(index: int) -> str:
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


def _figure(width: float, height: float) -> Figure:
    # The object interface keeps no global state, so a report can be written beside a training.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(_words(title), fontsize=9, color=INK, loc="left")
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _words(text: str) -> str:
    """Return a name from a file as it stands: no control character, and no formula between dollar signs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("$", r"\$")


def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the table beside the figure has the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
