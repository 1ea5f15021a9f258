"""Logits of a member that are computed as they are read, in memory that is known before anything is computed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from autoseg.compute.workers import free_memory_bytes
from autoseg.images.fields import Rows
from autoseg.networks.passes import Setting
from autoseg.networks.sweep import buffer_bytes, sweep
from autoseg.records.errors import ResourceError, UserError
from autoseg.records.geometry import Box

R = TypeVar("R")

log = logging.getLogger(__name__)

# Of the free memory; the rest is for the networks' own activations and for what else runs on the machine.
FREE_FRACTION = 0.5
# Halvings of the memory before a card gives up.
ATTEMPTS = 3


@dataclass(frozen=True)
class Computed:
    """A member's mean logits as a `Source`: windows are computed when a part of them is read.

    Attributes:
        image: Network input, float32, (C, Z, Y, X).
        setting: How windows are computed.
        classes: Output channels.
        case: For messages.
    """

    image: Tensor
    setting: Setting
    classes: int
    case: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(K, Z, Y, X)."""
        z, y, x = self.image.shape[1:]
        return self.classes, z, y, x

    @property
    def depth(self) -> tuple[int, int, int]:
        """Rows along each axis that the slab under a window has."""
        z, y, x = self.setting.patch
        return z, y, x

    def open(self, axis: int, part: Box) -> Rows:
        """Begin to compute a part that is whole along `axis`."""
        return _Merged(sweep(self.setting, self.image, axis, part), self.case)

    def bytes_held(self, axis: int, part_shape: Sequence[int]) -> float:
        """Return the bytes of the slab under the windows, and of the rows read from it."""
        return buffer_bytes(self.setting, self.classes, axis, part_shape)


@dataclass(frozen=True)
class _Merged:
    """The one field of a sweep whose networks are averaged."""

    rows: Rows
    case: str

    def read(self, start: int, stop: int) -> Tensor:
        try:
            return self.rows.read(start, stop)[0]
        except UserError as error:
            raise error.in_case(self.case) from None


def free_bytes(device: str) -> float:
    """Return the bytes that slabs may take: half of what is free on the device, without bound where it is unknown."""
    if torch.device(device).type == "cuda":
        return FREE_FRACTION * torch.cuda.mem_get_info(torch.device(device))[0]
    free = free_memory_bytes()
    return math.inf if free is None else FREE_FRACTION * free


def within_memory(compute: Callable[[str, float], R], device: str, memory_bytes: float, *, case: str) -> R:
    """Return `compute(device, memory_bytes)`; where memory runs out, with less of it, at last on the CPU.

    Any other error goes through as it is: only what memory explains is tried again.

    Raises:
        ResourceError: The memory does not suffice on the CPU either.
    """
    places = [(device, memory_bytes / 2**halvings) for halvings in range(ATTEMPTS)]
    if torch.device(device).type != "cpu":
        places.append(("cpu", free_bytes("cpu")))
    for number, (place, allowed) in enumerate(places):
        try:
            return compute(place, allowed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            after = places[number + 1] if number + 1 < len(places) else None
            where = "" if after is None else f"; smaller tiles on {after[0]}"
            log.warning("%s: out of memory on %s%s", case, place, where)
        # Outside of the handler: its traceback keeps the tensors of the failed attempt alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    fix = "Close other programs, or use a machine with more memory."
    raise ResourceError("there is not enough memory for this scan", case=case, fix=fix, code="no_memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, and nothing else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def on_device(setting: Setting, device: str) -> Setting:
    """Return the setting on another device, its networks moved there."""
    if torch.device(device) == setting.device:
        return setting
    networks = tuple(network.to(device) for network in setting.networks)
    return replace(setting, networks=networks, device=torch.device(device))
