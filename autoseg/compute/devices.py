"""What there is to compute with: cuda, mps or cpu, how much memory, and in which precision it is fast."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoseg.compute.allocator import keep_freed_memory
from autoseg.compute.workers import processors
from autoseg.records.errors import UsageError
from autoseg.records.machine import DeviceProfile

CPU_MEMORY_GB = 8.0
GB = 2**30
# bfloat16 counts as fast when it takes less than this share of float32's time; emulated it takes more, not less.
FAST_FRACTION = 0.8
PROBE_SECONDS = 0.2
TRIAL_SECONDS = 0.5
# The first generation of NVIDIA cards whose hardware computes in bfloat16.
AMPERE = (8, 0)


def find(device: str | None = None, memory_gb: float | None = None, *, calibrate: bool = False) -> DeviceProfile:
    """Return what a device can do.

    Args:
        device: `cuda`, `cuda:1`, `mps` or `cpu`; None takes the first there is, in this order.
        memory_gb: What a plan may count on; None takes the card's memory, or 8 nominal GB on a CPU.
        calibrate: Whether to measure the speed of training in a trial of at most two seconds.

    Raises:
        UsageError: There is no such device (those there are are listed), or the memory is not a positive number.
    """
    if memory_gb is not None and not (memory_gb > 0 and math.isfinite(memory_gb)):
        raise UsageError(f"{memory_gb} GB of memory is not a positive number", fix="Give for example --memory-gb 8.")
    there = available()
    chosen = there[0] if device is None else device
    if chosen not in there and not (chosen == "cuda" and torch.cuda.is_available()):
        raise UsageError(f"there is no device {chosen!r}", fix=f"There are: {', '.join(there)}.", code="no_device")
    where = torch.device(chosen)
    fast = _fast_bfloat16(where)
    return DeviceProfile(
        kind=_kind(where),
        name=_name(where),
        memory_gb=_memory_gb(where) if memory_gb is None else memory_gb,
        fast_bfloat16=fast,
        threads=processors() if where.type == "cpu" else 0,
        flops_per_second=_two_digits(_training_speed(where, bfloat16=fast)) if calibrate else 0.0,
    )


def available() -> tuple[str, ...]:
    """Return the names of all devices, the one to prefer first."""
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return (*cards, *mps, "cpu")


def torch_device(profile: DeviceProfile) -> torch.device:
    """Return the device of a profile as torch names it."""
    return torch.device(profile.kind)


def set_threads(count: int) -> None:
    """Let torch compute with `count` threads (at least 1), in memory that is kept from one step to the next."""
    keep_freed_memory()
    if torch.get_num_threads() != max(1, count):
        torch.set_num_threads(max(1, count))


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the processor calls itself, else the architecture."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def _kind(device: torch.device) -> Literal["cuda", "mps", "cpu"]:
    return "cuda" if device.type == "cuda" else "mps" if device.type == "mps" else "cpu"


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name() if device.type == "cpu" else f"Apple {platform.machine()}"


def _memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.get_device_properties(device).total_memory / GB, 1)
    if device.type == "mps":
        return round(torch.mps.recommended_max_memory() / GB, 1)
    return CPU_MEMORY_GB


@cache
def _fast_bfloat16(device: torch.device) -> bool:
    """Ask a card for its generation; time a small convolution elsewhere, once a process."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    # One thread: threads that wait for one another on a busy machine would drown the difference.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        slow, fast = _shortest(*(partial(_convolve, device, dtype) for dtype in (torch.float32, torch.bfloat16)))
    finally:
        torch.set_num_threads(before)
    return fast < FAST_FRACTION * slow


def _convolve(device: torch.device, dtype: torch.dtype) -> None:
    x = torch.ones(1, 32, 16, 24, 24, device=device, dtype=dtype, requires_grad=True)
    weight = torch.ones(32, 32, 3, 3, 3, device=device, dtype=dtype, requires_grad=True)
    nn.functional.conv3d(x, weight, padding=1).sum().backward()
    _wait(device)


def _shortest(*works: Callable[[], None], seconds: float = PROBE_SECONDS) -> tuple[float, ...]:
    """Return the shortest run of each work; they take turns, so that a busy moment meets all of them."""
    for work in works:
        work()
    best = [math.inf] * len(works)
    deadline = time.perf_counter() + seconds
    while math.inf in best or time.perf_counter() < deadline:
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[index] = min(best[index], time.perf_counter() - start)
    return tuple(best)


def _training_speed(device: torch.device, *, bfloat16: bool) -> float:
    """Return the floating-point operations a second that training a small dense network reached."""
    with torch.random.fork_rng(devices=[]):
        network, image = _trial(device)
    step = partial(_train, network, image, bfloat16=bfloat16)
    with FlopCounterMode(display=False) as counter:
        step()
    # The best step, not the mean: what else the machine does meanwhile is no part of its speed.
    (shortest,) = _shortest(step, seconds=TRIAL_SECONDS)
    return counter.get_total_flops() / shortest


def _trial(device: torch.device) -> tuple[nn.Module, Tensor]:
    # The shapes of a U-Net's first three stages, where it spends its time; larger on a card, to fill it.
    side, batch = (96, 2) if device.type == "cuda" else (32, 1)
    layers: list[nn.Module] = []
    stages = ((1, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
    for inputs, outputs, stride in stages:
        # The same arithmetic twice; each is the faster kernel of its device.
        norm = nn.GroupNorm(outputs, outputs) if device.type == "cpu" else nn.InstanceNorm3d(outputs, affine=True)
        layers += [nn.Conv3d(inputs, outputs, 3, stride, 1), norm, nn.LeakyReLU(0.01, inplace=True)]
    return nn.Sequential(*layers).to(device), torch.zeros(batch, 1, side, side, side, device=device)


def _train(network: nn.Module, image: Tensor, *, bfloat16: bool) -> None:
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
        loss = network(image).float().square().mean()
    loss.backward()
    _wait(image.device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _two_digits(value: float) -> float:
    """Return the value rounded to two digits, so that a plan does not change with every trial."""
    return float(f"{value:.1e}")
