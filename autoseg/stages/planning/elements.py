"""nnU-Net's own estimate of memory, for conformance: convolution output elements instead of measured bytes."""

from __future__ import annotations

import math

from autoseg.records.configuration import Architecture
from autoseg.stages.planning.topology import Topology

REFERENCE_GB = 8.0
REFERENCE_BATCH_3D = 2
REFERENCE_BATCH_2D = 12


def elements(architecture: Architecture, topology: Topology) -> int:
    """Return the output elements of all convolutions of a U-Net for one sample of the topology's patch.

    Encoder, decoder, transposed convolutions and the finest head; the coarser heads are not counted.

    Source:
        Isensee et al. 2021; equal to dynamic-network-architectures 0.4 for plain and residual encoders.
    """
    arguments: dict = architecture.arguments  # type: ignore[assignment]
    features, residual = arguments["features"], architecture.kind == "residual_unet"
    size, voxels = topology.patch, []
    for stride in topology.strides:
        size = tuple(edge // step for edge, step in zip(size, stride, strict=True))
        voxels.append(math.prod(size))
    total = features[0] * topology.voxels if residual else 0  # the stem
    for stage, count in enumerate(arguments["blocks"]):
        outputs = count
        if residual:
            # Two convolutions a block, and a 1x1 on the shortcut where size or features change.
            changes = stage > 0
            outputs = 2 * count + int(changes)
        total += outputs * features[stage] * voxels[stage]
    for stage, count in enumerate(reversed(arguments["decoder_blocks"])):
        total += (count + 1) * features[stage] * voxels[stage]
    return int(total + architecture.output_channels * topology.voxels)


def kept(architecture: Architecture, topology: Topology) -> int:
    """Return elements that one sample of a U-Net holds even where activations are recomputed.

    In the backward pass of the finest decoder stage: the skip with what comes from below, and one output.
    """
    arguments: dict = architecture.arguments  # type: ignore[assignment]
    return int(3 * arguments["features"][0] * topology.voxels)


def capacity(architecture: Architecture, topology: Topology, *, limits: tuple[float, float], memory_gb: float) -> float:
    """Return how large a batch nnU-Net would plan; below 2 (exact) the patch is too large, from 2 on a whole number.

    Args:
        architecture: A U-Net.
        topology: With the patch.
        limits: Elements at 8 GB in 3D and in 2D.
        memory_gb: Of the device; the limits scale with it.
    """
    flat = architecture.dimensions == 2
    limit = limits[1 if flat else 0] * memory_gb / REFERENCE_GB
    batch = limit / elements(architecture, topology) * (REFERENCE_BATCH_2D if flat else REFERENCE_BATCH_3D)
    return batch if batch < 2 else float(round(batch))
