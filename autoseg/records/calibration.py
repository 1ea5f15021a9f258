"""How fast a device does each kind of operation, and how much of each kind a training step holds."""

from __future__ import annotations

from typing import Literal

from autoseg.records.machine import DeviceProfile
from autoseg.records.record import Record

Kind = Literal[
    "dense",
    "thin",
    "pointwise",
    "depthwise",
    "depthwise_strided",
    "depthwise_transposed",
    "transposed",
    "matmul",
    "attention",
    "norm",
    "elementwise",
    "copy",
    "exponential",
    "index",
    "optimizer",
    "sample",
    "place",
    "blur",
    "low_resolution",
    "intensity",
]
"""Convolutions of many channels, of few (fewer than 16 on one side), of one voxel, of one channel each (also from finer
to coarser and from coarser to finer voxels), backwards; matrix products; attention; normalisation; and of what is bound
by memory: sums and products, copies and changes of type, softmax and its like, gathering and scattering, the
optimiser's update of the weights. The last five make a batch: drawing and cutting out a sample, rotation and scaling as
one resampling, blurring, low resolution, and changes of single voxels."""
Precision = Literal["float32", "bfloat16", "float16"]


class Rate(Record):
    """The speed of one kind of operation, forward and backward together.

    Attributes:
        kind: Of the operation.
        dimensions: 2 or 3; 0 where it plays no part.
        width: Channels on the narrower side of a convolution; 0 where they play no part.
        taps: Voxels of the kernel of convolutions that do little with each voxel: thin, transposed, of one channel
            each. Such a call takes what moving its voxels takes, and what each tap takes. 0 elsewhere.
        precision: Of the operands.
        memory_format: `contiguous` or `channels_last`; empty where it plays no part.
        per_second: Floating-point operations; bytes read and written of norms and elementwise operations; voxels times
            channels of what makes a batch. Of the largest call that was timed.
        points: (amount of one call, its seconds), by amount: small calls cost what being called costs, and what fits
            into a cache is moved faster. Empty in files of before: then calls are in proportion.
    """

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    precision: Precision
    memory_format: Literal["", "contiguous", "channels_last"]
    per_second: float
    points: tuple[tuple[float, float], ...] = ()
    taps: int = 0


class Calibration(Record):
    """Speeds of one device by kind of operation and data type.

    Attributes:
        device: What was measured.
        torch_version: That it was measured with.
        call_seconds: What an operator costs however little it does, where its rate has no points.
        rates: Of every kind that was measured.
        step_factors: Precision and memory format (`bfloat16 channels_last`; in older files the precision alone) -> what
            whole steps took over the sum of their parts: operators timed by themselves find their operands in the
            caches and the memory that they need at hand.
    """

    schema_version: Literal[1] = 1
    device: DeviceProfile
    torch_version: str
    call_seconds: float
    rates: tuple[Rate, ...]
    step_factors: dict[str, float] = {}

    @property
    def tells_kernels_apart(self) -> bool:
        """Whether convolutions of one channel each were timed by kernel and width, as they are now."""
        return any(rate.taps > 0 for rate in self.rates if rate.kind == "depthwise")


class Amount(Record):
    """How much of one kind of operation a step holds, in the unit of its rate.

    Attributes:
        calls: Operators that the amount is spread over; calls of very different size are amounts of their own.
    """

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    precision: Precision
    amount: float
    calls: int = 1
    taps: int = 0


class StepWork(Record):
    """All that one training step computes, forward and backward.

    Attributes:
        amounts: By kind, width and data type.
        calls: Operators that were run.
    """

    amounts: tuple[Amount, ...]
    calls: int
