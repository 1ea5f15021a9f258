"""What a machine can do."""

from __future__ import annotations

import math
from typing import Literal

from autoseg.records.record import Record

CARD_FRACTION, CARD_RESERVE_BYTES = 0.85, 2**30


class DeviceProfile(Record):
    """The device that a plan is made for.

    Attributes:
        kind: `cuda`, `mps` or `cpu`.
        name: As the driver or the processor calls itself.
        memory_gb: What a plan may count on: the card's memory, or what `--memory-gb` says; 8 on a CPU.
        fast_bfloat16: Whether bfloat16 is computed in hardware (AMX or AVX512-BF16 on a CPU), probed.
        threads: Threads that a CPU computes with; 0 where it does not matter.
        flops_per_second: What a training step of dense convolutions reached in a short trial, two digits; 0 when not
            measured.
    """

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    memory_gb: float
    fast_bfloat16: bool
    threads: int = 0
    flops_per_second: float = 0.0

    def budget_bytes(self) -> float:
        """Return the bytes that one training step may hold.

        On a card 0.85 of the memory less 1 GB (context, workspaces, fragmentation); on a CPU all of the nominal
        memory, because nothing but the step was counted into it.
        """
        if self.kind == "cpu":
            return self.memory_gb * 2**30
        return CARD_FRACTION * self.memory_gb * 2**30 - CARD_RESERVE_BYTES

    def memory_for(self, step_bytes: float) -> float:
        """Return the `memory_gb` that a step of so many bytes needs, rounded up to tenths."""
        needed = step_bytes if self.kind == "cpu" else (step_bytes + CARD_RESERVE_BYTES) / CARD_FRACTION
        return math.ceil(10 * needed / 2**30) / 10
