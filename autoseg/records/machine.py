"""What a machine can do."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from autoseg.records.record import GrowingRecord, Record

CARD_FRACTION, CARD_RESERVE_BYTES = 0.85, 2**30


class CardOverhead(Record):
    """What a card holds beside the tensors of a training step, measured by `benchmarks/memory_estimate.py`.

    Attributes:
        context_bytes: Of the driver and of loaded libraries: in use while the allocator holds nothing.
        workspace_bytes: The most that a real step held above its estimate: workspaces of single kernels.
        fragmentation: The most that the allocator reserved over what was held.
    """

    context_bytes: int = Field(ge=0)
    workspace_bytes: int = Field(ge=0)
    fragmentation: float = Field(ge=1)


class DeviceProfile(GrowingRecord):
    """The device that a plan is made for.

    Attributes:
        kind: `cuda`, `mps` or `cpu`.
        name: As the driver or the processor calls itself.
        memory_gb: What a plan may count on: the card's memory, or what `--memory-gb` says; 8 on a CPU.
        fast_bfloat16: Whether bfloat16 is computed in hardware (AMX or AVX512-BF16 on a CPU), probed.
        threads: Threads that a CPU computes with; 0 where it does not matter.
        flops_per_second: What a training step of dense convolutions reached in a short trial, two digits; 0 when not
            measured.
        overhead: Of a card, where it was measured.
    """

    LATER: ClassVar[tuple[str, ...]] = ("overhead",)

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    memory_gb: float
    fast_bfloat16: bool
    threads: int = 0
    flops_per_second: float = 0.0
    overhead: CardOverhead | None = None

    def budget_bytes(self) -> float:
        """Return the bytes that one training step may hold.

        On a card what is left by context, fragmentation and workspaces: as measured, else 0.85 of the memory less
        1 GB. On a CPU all of the nominal memory, because nothing but the step was counted into it.
        """
        memory = self.memory_gb * 2**30
        if self.kind == "cpu":
            return memory
        if self.overhead is None:
            return CARD_FRACTION * memory - CARD_RESERVE_BYTES
        return (memory - self.overhead.context_bytes) / self.overhead.fragmentation - self.overhead.workspace_bytes

    def memory_for(self, step_bytes: float) -> float:
        """Return the `memory_gb` that a step of so many bytes needs, rounded up to tenths."""
        if self.kind == "cpu":
            needed = step_bytes
        elif self.overhead is None:
            needed = (step_bytes + CARD_RESERVE_BYTES) / CARD_FRACTION
        else:
            reserved = (step_bytes + self.overhead.workspace_bytes) * self.overhead.fragmentation
            needed = reserved + self.overhead.context_bytes
        return math.ceil(10 * needed / 2**30) / 10
