"""How many patches go through a network at once: as many as make the device fast and as its memory holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from autoseg.networks.memory import measure_window
from autoseg.networks.sliding_window import useful_batch
from autoseg.records.configuration import Configuration

# Of the memory that a scan may take; the rest is for the slab that windows are added up in.
WINDOWS_FRACTION = 0.5
# What the slab gets at least, however large a single window is.
SLAB_FRACTION = 0.25


def window_bytes(
    configuration: Configuration, batch: int, *, precision: str, device: str, headless: bool = False
) -> int:
    """Return what `batch` patches hold at the worst moment of their way through the network, as a dry run counts it.

    With `headless` that is without the last layer, before which windows are added up.
    """
    cost = measure_window(
        configuration.architecture,
        configuration.patch_shape,
        batch,
        precision=precision,
        device_kind=torch.device(device).type,
        headless=headless,
    )
    return cost.peak_bytes


def window_batch(
    configuration: Configuration, *, precision: str, device: str, memory_bytes: float, headless: bool = False
) -> int:
    """Return how many patches are computed at once.

    Args:
        configuration: Whose network.
        precision: That it computes in.
        device: Where.
        memory_bytes: What a scan may take; windows get half of it.
        headless: As in `window_bytes`.
    """
    useful = useful_batch(configuration.patch_shape, device)
    if useful == 1 or math.isinf(memory_bytes):
        return useful
    asked: dict[str, Any] = {"precision": precision, "device": device, "headless": headless}
    one, two = (window_bytes(configuration, count, **asked) for count in (1, 2))
    room = WINDOWS_FRACTION * memory_bytes - (2 * one - two)
    return max(1, min(useful, int(room / max(1, two - one))))


def slab_memory(
    configurations: Sequence[tuple[Configuration, bool]],
    *,
    precision: str,
    device: str,
    memory_bytes: float,
    wanted: float,
) -> float:
    """Return what of the memory is left for the logits of a scan beside the windows that are computed.

    Args:
        configurations: Of all networks that see the scan, one after the other, and whether they do without their heads.
        precision: That they compute in.
        device: Where.
        memory_bytes: What the scan may take.
        wanted: What its logits take at once where nothing is cut; below the slab's own share nothing is measured,
            for a dry run takes seconds.
    """
    least = SLAB_FRACTION * memory_bytes
    if wanted <= least:
        return memory_bytes
    sizes = []
    for item, headless in configurations:
        asked: dict[str, Any] = {"precision": precision, "device": device, "headless": headless}
        sizes.append(window_bytes(item, window_batch(item, memory_bytes=memory_bytes, **asked), **asked))
    largest = max(sizes)
    return max(least, memory_bytes - largest)
