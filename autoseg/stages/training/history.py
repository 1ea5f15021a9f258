"""The course of a run: one JSON line an epoch, a CSV of the same at the end, and a picture of both."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from autoseg.records.errors import ResourceError
from autoseg.records.record import Record
from autoseg.storage import write_bytes, writing


class Epoch(Record):
    """One line of the history.

    Attributes:
        step: Steps done when it was written.
        loss: Mean over the epoch's finite losses; nan when none was finite.
        rate: Learning rate of its last step.
        seconds: Wall time of the epoch.
        wait_fraction: Share of `seconds` in which the device waited for a batch.
        samples: Seen since the run began.
        dice: Mean Dice on the patients set apart, or where nobody is, on the epoch's last training batch.
        average_dice: The same of the moving average of the weights; nan where there is none.
        measured_on: Which of the two `dice` is.
        by_class: `dice` of each structure or region.
        skipped: Steps of the epoch that were left out because their loss was not finite.
    """

    epoch: int
    step: int
    loss: float
    rate: float
    seconds: float
    wait_fraction: float
    samples: int
    skipped: int = 0
    dice: float = math.nan
    average_dice: float = math.nan
    measured_on: Literal["batch", "patients"] = "batch"
    by_class: dict[str, float] = {}


def append(folder: Path, epoch: Epoch) -> None:
    """Add one line to `folder/history.jsonl`.

    Raises:
        ResourceError: The disk is full or the folder is gone.
    """
    path = folder / "history.jsonl"
    try:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(epoch.model_dump(mode="json")) + "\n")
    except OSError as error:
        raise ResourceError(
            f"cannot be written: {error.strerror or error}",
            file=path,
            fix="Free some space, then run the same command again: it goes on from the last checkpoint.",
            code="cannot_write",
        ) from error


def read(folder: Path) -> tuple[Epoch, ...]:
    """Return the lines written so far; what follows a damaged line (the process was killed while writing) is lost."""
    path = folder / "history.jsonl"
    epochs: list[Epoch] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            epochs.append(Epoch.model_validate_json(line))
        except ValidationError:
            break
    return tuple(epochs)


def rewind(folder: Path, step: int) -> None:
    """Drop the lines beyond `step`, which a resumed run is going to write again."""
    kept = [item for item in read(folder) if item.step <= step]
    lines = "".join(json.dumps(item.model_dump(mode="json")) + "\n" for item in kept)
    write_bytes(folder / "history.jsonl", lines.encode())


def write_csv(folder: Path) -> None:
    """Write `history.csv` from the lines."""
    text = io.StringIO(newline="")
    rows = [item.model_dump(exclude={"by_class"}) | _columns(item) for item in read(folder)]
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(Epoch.model_fields)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / "history.csv", text.getvalue().encode())


def _columns(epoch: Epoch) -> dict[str, float]:
    return {f"dice {name}": value for name, value in epoch.by_class.items()}


def draw_curves(folder: Path, *, title: str) -> None:
    """Draw `curves.png`: loss, Dice and learning rate over the steps."""
    # Imported here: half a second that only a finished epoch is worth.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = read(folder)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [item.step for item in epochs]
    axes.plot(steps, [item.loss for item in epochs], color="tab:blue", marker=_marker(steps), label="loss")
    axes.plot(steps, [item.dice for item in epochs], color="tab:green", marker=_marker(steps), label="Dice")
    if any(item.average_dice == item.average_dice for item in epochs):
        axes.plot(steps, [item.average_dice for item in epochs], color="tab:olive", label="Dice of the average")
    where = "patients set apart" if any(item.measured_on == "patients" for item in epochs) else "training batch"
    axes.legend(title=f"measured on: {where}")
    axes.set(title=title, xlabel="step", ylabel="loss (mean of the epoch), Dice")
    axes.grid(alpha=0.3)
    rates = axes.twinx()
    rates.plot(steps, [item.rate for item in epochs], color="tab:orange", linewidth=1)
    rates.set_ylabel("learning rate", color="tab:orange")
    with writing(folder / "curves.png") as temporary:
        canvas.print_png(str(temporary))


def _marker(steps: Sequence[int]) -> str:
    """A curve of one point is invisible without a marker."""
    return "." if len(steps) < 50 else ""
