"""What a budget of time asks of a step: how many steps a run must have, and how long one may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoseg.records.machine import DeviceProfile

TRAINING_FRACTION = 0.9  # the rest reads, validates, predicts and scores
LONGEST_STEP_FRACTION = 1 / 200
MIN_BATCH_2D = 8


@dataclass(frozen=True)
class Clock:
    """The time of one run (one fold of one configuration) and the speed of the device.

    Attributes:
        seconds: Of the run.
        flops_per_second: What the device reached in a trial.
        min_steps: How many steps a run should have at least.
    """

    seconds: float
    flops_per_second: float
    min_steps: int = round(1 / LONGEST_STEP_FRACTION)

    @property
    def longest_step_seconds(self) -> float:
        """How long one step may take."""
        return self.seconds * LONGEST_STEP_FRACTION

    def steps(self, flops: float) -> float:
        """Return how many steps of `flops` operations the run has."""
        return self.seconds * self.flops_per_second / max(flops, 1.0)

    def allows(self, flops: float) -> bool:
        """Return whether a step of `flops` operations takes at most 1/200 of the run."""
        return self.steps(flops) * LONGEST_STEP_FRACTION >= 1

    def shorten(
        self, batch: int, because: str, *, step_flops: Callable[[int], float], min_batch: int, dimensions: int
    ) -> tuple[int, str]:
        """Return the largest batch with which the run has enough steps, and why.

        Args:
            batch: What memory and data allow.
            because: Why it is so.
            step_flops: Operations of a step by its batch.
            min_batch: Never less.
            dimensions: In 2D a batch keeps 8 slices, so that a step sees more than one structure, unless the step
                would then take more than 1/200 of the run.
        """
        least = min(batch, max(min_batch, MIN_BATCH_2D if dimensions == 2 else 0))
        chosen = batch
        while chosen > least and self.steps(step_flops(chosen)) < self.min_steps:
            chosen -= 1
        while chosen > min_batch and not self.allows(step_flops(chosen)):
            chosen -= 1
        if chosen == batch:
            return batch, because
        many, few = self.steps(step_flops(chosen)), self.steps(step_flops(batch))
        why = (
            f"in a run of {self.seconds / 60:.3g} minutes a batch of {batch} leaves {few:.0f} steps, and a network that"
            f" takes more steps learns more: with {chosen} it has about {many:.0f} (wanted {self.min_steps})"
        )
        return chosen, why


def run_clock(
    minutes: float | None, device: DeviceProfile, *, share: float, folds: int, min_steps: int | None = None
) -> Clock | None:
    """Return the clock of one run, or None where there is no budget or the device's speed was not measured.

    Args:
        minutes: Budget of the whole training.
        device: Its `flops_per_second` counts.
        share: Of the configuration in the line-up.
        folds: Runs of a configuration.
        min_steps: How many steps a run should have; None for the bound that one step is at most 1/200.
    """
    if minutes is None or device.flops_per_second <= 0:
        return None
    seconds = minutes * 60 * TRAINING_FRACTION * share / max(folds, 1)
    clock = Clock(seconds, device.flops_per_second)
    return clock if min_steps is None else Clock(seconds, device.flops_per_second, min_steps)
