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
    "transposed",
    "matmul",
    "attention",
    "norm",
    "elementwise",
    "place",
    "blur",
    "low_resolution",
    "intensity",
]
"""Convolutions of many channels, of few (fewer than 16 on one side), of one voxel, of one channel each, backwards;
matrix products; attention; normalisation; everything else. The last four make a batch: rotation and scaling as one
resampling, blurring, low resolution, and changes of single voxels."""
Precision = Literal["float32", "bfloat16", "float16"]


class Rate(Record):
    """The speed of one kind of operation, forward and backward together.

    Attributes:
        kind: Of the operation.
        dimensions: 2 or 3; 0 where it plays no part.
        width: Channels on the narrower side of a convolution; 0 where they play no part.
        precision: Of the operands.
        memory_format: `contiguous` or `channels_last`; empty where it plays no part.
        per_second: Floating-point operations; bytes read and written of norms and elementwise operations; voxels times
            channels of what makes a batch.
    """

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    precision: Precision
    memory_format: Literal["", "contiguous", "channels_last"]
    per_second: float


class Calibration(Record):
    """Speeds of one device by kind of operation and data type.

    Attributes:
        device: What was measured.
        torch_version: That it was measured with.
        call_seconds: What an operator costs however little it does.
        rates: Of every kind that was measured.
        step_factors: Precision -> what a whole step took over the sum of its parts: operators timed by themselves find
            their operands in the caches and the memory that they need at hand.
    """

    schema_version: Literal[1] = 1
    device: DeviceProfile
    torch_version: str
    call_seconds: float
    rates: tuple[Rate, ...]
    step_factors: dict[Precision, float] = {}


class Amount(Record):
    """How much of one kind of operation a step holds, in the unit of its rate."""

    kind: Kind
    dimensions: Literal[0, 2, 3]
    width: int
    precision: Precision
    amount: float


class StepWork(Record):
    """All that one training step computes, forward and backward.

    Attributes:
        amounts: By kind, width and data type.
        calls: Operators that were run.
    """

    amounts: tuple[Amount, ...]
    calls: int
