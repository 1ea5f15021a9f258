"""The course of a run for TensorBoard, beside the history; only where it is asked for (`--tensorboard`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from autoseg.records.errors import UsageError
from autoseg.stages.training.history import Epoch

FOLDER = "tensorboard"


def check() -> None:
    """Refuse where the package is missing.

    Raises:
        UsageError: It is; the message says how to get it.
    """
    try:
        # Imported here: an extra that few ask for, and a second to load.
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UsageError(
            "--tensorboard needs a package that is not installed",
            fix="Run: pip install 'autoseg[tensorboard]'.",
            code="no_tensorboard",
        ) from None


@contextlib.contextmanager
def written(folder: Path, *, step: int) -> Iterator[Callable[[Epoch], None]]:
    """Give what writes an epoch's line into `folder/tensorboard`.

    Args:
        folder: Of the run.
        step: Steps done; what a killed run wrote beyond them is hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)
    try:
        yield lambda epoch: _write(writer, epoch)
    finally:
        writer.close()


def scalars(epoch: Epoch) -> dict[str, float]:
    """Return what is shown of an epoch, by TensorBoard's names; what was not measured is left out."""
    shown = {
        "loss": epoch.loss,
        "learning_rate": epoch.rate,
        f"dice/{epoch.measured_on}": epoch.dice,
        "dice/average_of_weights": epoch.average_dice,
        "time/epoch_seconds": epoch.seconds,
        "time/wait_fraction": epoch.wait_fraction,
        **{f"dice_by_class/{name}": value for name, value in epoch.by_class.items()},
    }
    return {name: value for name, value in shown.items() if value == value}


def _write(writer: object, epoch: Epoch) -> None:
    for name, value in scalars(epoch).items():
        writer.add_scalar(name, value, epoch.step)  # type: ignore[attr-defined]
    writer.flush()  # type: ignore[attr-defined]
