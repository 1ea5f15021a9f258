"""Ranks: processes that compute one training step together, each its share of the batch on a device of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Longer than any rank may measure while the others wait. A death is noticed by its process, not by this.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that compute together.

    Attributes:
        rank: From 0; rank 0 is the process that the user started.
        size: How many there are.
    """

    rank: int
    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks; its gradient is the sum of all ranks' gradients."""
        result: Tensor = _Sum.apply(tensor)
        return result

    def average(self, gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Put the mean over all ranks in the place of the gradients, and return the mean loss.

        One message after the backward pass: what is not finite on one rank is not finite on all of them, so that all
        skip the same step.
        """
        message = torch.cat([*(item.detach().reshape(-1).float() for item in gradients), loss.reshape(1).float()])
        dist.all_reduce(message)
        message /= self.size
        sizes = [item.numel() for item in gradients]
        for gradient, part in zip(gradients, message[:-1].split(sizes), strict=True):
            gradient.copy_(part.view(gradient.shape))
        return message[-1]


def join(store: Path, rank: int, size: int, *, device: str) -> Ranks:
    """Meet the other ranks of this machine; returns when all are there.

    Args:
        store: A file in an empty folder, the same for all; they meet by it.
        rank, size: Of this process.
        device: `cpu`, or the rank's own card as torch names it.
    """
    if sys.platform == "linux":
        # All ranks are on this machine: nobody outside of it is listened to.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(torch.device(device))
    meeting = dist.FileStore(str(store), size)  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if cuda else "gloo", store=meeting, rank=rank, world_size=size, timeout=PATIENCE)
    return Ranks(rank, size)


def leave() -> None:
    """End this process's part, whatever state the others are in."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        result = tensor.detach().clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        result = gradients[0].contiguous().clone()
        dist.all_reduce(result)
        return result
