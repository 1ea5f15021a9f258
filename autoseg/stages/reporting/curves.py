"""How training went, fold by fold, and how far probabilities may be believed: figures with lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.records.temperature import TemperatureFit
from autoseg.stages.reporting import figures
from autoseg.stages.training.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CANDIDATES = 12  # rows of the figure


def training(histories: Mapping[str, Mapping[str, Sequence[Epoch]]]) -> str:
    """Return a row a candidate: loss, Dice and learning rate by steps, and steps by hours; a line a fold.

    Args:
        histories: Candidate -> fold -> its logged epochs.
    """
    shown = list(histories.items())[:MOST_CANDIDATES]
    figure = figures.blank(9, max(1, len(shown)) * 2.0 + 0.2)
    grid = figure.subplots(max(1, len(shown)), 4, squeeze=False)
    for row, (name, folds) in zip(grid, shown, strict=False):
        for index, (fold, epochs) in enumerate(folds.items()):
            for axes, (x, y) in zip(row, _lines(epochs), strict=True):
                axes.plot(x, y, color=figures.colour(index), linewidth=1.0, label=fold)
        measured = {item.measured_on for epochs in folds.values() for item in epochs[:1]}
        what = "patients set apart" if measured == {"patients"} else "training batches"
        for axes, title in zip(row, ("loss", f"Dice on {what}", "learning rate", "hours"), strict=True):
            figures.plain(axes, title)
            axes.set_xlabel("steps", fontsize=6)
        row[0].set_title(f"{figures.words(name)}: loss", fontsize=7, color=figures.INK, loc="left")
        row[3].legend(fontsize=6, frameon=False, title="fold", title_fontsize=6)
    return figures.inline(figure)


def _lines(epochs: Sequence[Epoch]) -> tuple[tuple[list[float], list[float]], ...]:
    steps = [float(item.step) for item in epochs]
    hours = np.cumsum([item.seconds for item in epochs]) / 3600
    columns = ([item.loss for item in epochs], [item.dice for item in epochs], [item.rate for item in epochs])
    return (*((steps, column) for column in columns), (steps, hours.tolist()))


def reliability(fit: TemperatureFit) -> str:
    """Return how often the model was right where it was so sure, before and after the temperature; and how many."""
    figure = figures.blank(7, 3.0)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=figures.INK, linewidth=0.8, linestyle="dotted")
    pairs = ((fit.bins_before, "as it is", figures.colour(0)), (fit.bins_after, "with temperature", figures.INTERVAL))
    for bins, name, colour in pairs:
        confidence = [item.confidence for item in bins]
        left.plot(confidence, [item.accuracy for item in bins], marker="o", markersize=3, color=colour, label=name)
        _counts(right, confidence, [item.voxels for item in bins], colour)
    left.legend(fontsize=7, frameon=False)
    for axes, title in ((left, "share that was right, by confidence"), (right, "voxels, by confidence")):
        figures.plain(axes, title)
        axes.set_xlim(0, 1)
    return figures.inline(figure)


def _counts(axes: Axes, confidence: Sequence[float], voxels: Sequence[int], colour: str) -> None:
    axes.plot(confidence, voxels, marker="o", markersize=3, linewidth=1.0, color=colour)
    axes.set_yscale("log")
