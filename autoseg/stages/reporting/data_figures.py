"""Figures of the data alone: geometry, intensities, class sizes, and which classes come together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.records.exploration import QUANTILES, Exploration
from autoseg.stages.reporting import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 40  # classes whose names fit beside a matrix
ACCENT = "#2f6fed"


def geometry(found: Exploration) -> str:
    """Return spacing and field of view of every case along each axis, a dot a case."""
    figure = figures.blank(9, 2.4)
    left, right = figure.subplots(1, 2)
    spacing = np.array([case.spacing_mm for case in found.cases]).reshape(-1, 3)
    shapes = np.array([case.shape for case in found.cases], float).reshape(-1, 3)
    for axes, table, title in ((left, spacing, "spacing, mm"), (right, spacing * shapes, "field of view, mm")):
        _dots(axes, [table[:, axis] for axis in range(3)], ["z", "y", "x"])
        figures.plain(axes, title)
    return figures.inline(figure)


def volumes(found: Exploration, names: Sequence[str]) -> str:
    """Return the volume of every structure in every case where it is, on a logarithmic axis."""
    rows = {name: [case.volumes_ml[name] for case in found.cases if case.volumes_ml.get(name, 0) > 0] for name in names}
    order = sorted((name for name in names if rows[name]), key=lambda name: float(np.median(rows[name])))
    figure = figures.blank(9, max(1.6, 0.24 * len(order) + 0.9))
    axes = figure.subplots()
    axes.set_xscale("log")
    _dots(axes, [np.array(rows[name]) for name in order], order)
    for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        ticks(lambda value, place: f"{value:g}")
    figures.plain(axes, "volume in ml where present, a dot a case")
    axes.tick_params(which="minor", labelsize=6, labelrotation=30, colors=figures.INK, length=0)
    return figures.inline(figure)


def intensities(found: Exploration, channel: str) -> str:
    """Return one channel case by case (bars: 5 to 95 and 25 to 75 %, dot: median), and within each structure."""
    rows = [item for case in found.cases for item in case.channels if item.channel == channel]
    rows.sort(key=lambda item: item.quantiles[QUANTILES.index(0.5)])
    names = list(dict.fromkeys(name for item in rows for name in item.structure_medians))
    figure = figures.blank(9, max(2.6, 0.2 * len(names) + 0.9))
    left, right = figure.subplots(1, 2)
    place = np.arange(len(rows))
    table = np.array([item.quantiles for item in rows]).reshape(-1, len(QUANTILES)).T
    for low, high, width in ((0.05, 0.95, 1.0), (0.25, 0.75, 3.0)):
        bounds = (table[QUANTILES.index(low)], table[QUANTILES.index(high)])
        left.vlines(place, *bounds, color=ACCENT, alpha=0.45, linewidth=width)
    left.scatter(place, table[QUANTILES.index(0.5)], s=7, color=figures.INK, linewidths=0, zorder=3)
    left.set_xticks([])
    left.set_xlabel("cases, by their median", fontsize=7)
    values = [np.array([i.structure_medians[name] for i in rows if name in i.structure_medians]) for name in names]
    order = sorted(range(len(names)), key=lambda index: float(np.median(values[index])))
    _dots(right, [values[index] for index in order], [names[index] for index in order])
    figures.plain(left, f"{channel}: voxels that are not 0")
    figures.plain(right, f"{channel}: median within each structure, a dot a case")
    return figures.inline(figure)


def co_occurrence(found: Exploration, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return how many cases hold two structures together, and how many of these were annotated for both, (K, K)."""
    annotated = np.array([[name in case.volumes_ml for name in names] for case in found.cases], int)
    present = np.array([[case.volumes_ml.get(name, 0) > 0 for name in names] for case in found.cases], int)
    annotated, present = annotated.reshape(-1, len(names)), present.reshape(-1, len(names))
    return present.T @ present, present.T @ annotated


def nothing_to_tell(counts: tuple[np.ndarray, np.ndarray]) -> bool:
    """Return whether every structure is in every case where it was annotated."""
    return bool((counts[0] == counts[1]).all())


def together(counts: tuple[np.ndarray, np.ndarray], names: Sequence[str]) -> str:
    """Return the share of cases with the structure of the row that also hold that of the column, where annotated."""
    both, whole = counts
    share = np.divide(both, whole, out=np.full(both.shape, np.nan), where=whole > 0)
    side = min(9.0, max(3.0, 0.26 * len(names) + 1.8))
    figure = figures.blank(side, side * 0.86)
    axes = figure.subplots()
    drawn = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, shrink=0.6).ax.tick_params(labelsize=7)
    figures.plain(axes, "share of the row's cases that hold the column, too")
    axes.grid(visible=False)
    ticks = range(len(names)) if len(names) <= MOST_NAMED else ()
    words = [figures.words(name) for name in names][: len(ticks)]
    axes.set_xticks(ticks, words, rotation=90, fontsize=6)
    axes.set_yticks(ticks, words, fontsize=6)
    return figures.inline(figure)


def _dots(axes: Axes, rows: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Draw a row of dots a name, with its median as a line."""
    rng = np.random.default_rng(0)
    for place, values in enumerate(rows):
        height = place + rng.uniform(-0.2, 0.2, len(values))
        axes.scatter(values, height, s=9, color=ACCENT, alpha=0.5, linewidths=0)
        if len(values):
            axes.vlines(float(np.median(values)), place - 0.32, place + 0.32, color=figures.INK, linewidth=1.2)
    axes.set_yticks(range(len(names)), [figures.words(name) for name in names], fontsize=7)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
