"""Batches on the device, the next ones prepared while the present one computes."""

# B batch, C channel, K structures, Z Y X voxel

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoseg.networks import augmentation
from autoseg.networks.augmentation.absence import kept_channels
from autoseg.records.configuration import Sides
from autoseg.records.errors import ResourceError
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training import sampling

AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """What one step learns from, on the device.

    Attributes:
        cases: Case ids, one a sample.
        image: float32, (B, C, Z, Y, X); in a cascade the previous stage's structures are the last K channels.
        labels: Inside values, (B, Z, Y, X).
        annotated: Bool, (B, K + 1), or None.
    """

    cases: tuple[str, ...]
    image: Tensor
    labels: Tensor
    annotated: Tensor | None


def batches(
    rules: sampling.Rules, cases: Sequence[PreprocessedCase], steps: Iterable[int], *, device: str
) -> Generator[tuple[Batch, float], None, None]:
    """Yield the batch of each step, and the seconds that were spent waiting for it.

    One thread reads ahead. On a CPU it augments too; on another device augmentation runs there, in the caller's
    thread, so that its memory is free again before the step begins.

    Raises:
        UserError: A case cannot be read; it is named.
    """
    on_cpu = torch.device(device).type == "cpu"

    def prepare(step: int) -> Batch | sampling.Windows:
        windows = sampling.read(rules, cases, step)
        return augmented(rules, windows, device=device) if on_cpu else windows

    for prepared, wait_seconds in _ahead(prepare, steps):
        begun = time.perf_counter()
        batch = prepared if isinstance(prepared, Batch) else augmented(rules, prepared, device=device)
        yield batch, wait_seconds + time.perf_counter() - begun


def augmented(rules: sampling.Rules, windows: sampling.Windows, *, device: str) -> Batch:
    """Return the windows on the device, changed as their draws say and cut to the patch."""
    image, labels, previous = _changed(
        rules,
        windows.draws,
        _tensor(windows.image, device),
        _tensor(windows.labels, device),
        previous=None if windows.previous is None else _tensor(windows.previous, device),
        classes=rules.structures,
    )
    annotated = None if windows.annotated is None else _tensor(windows.annotated, device)
    if rules.sides is not None:
        flipped = [draw.mirror[rules.sides.axis] for draw in windows.draws]
        labels, previous, annotated = with_sides(rules.sides, flipped, labels, previous, annotated)
    if previous is not None:
        image = torch.cat([image, _one_hot(previous, rules.structures).to(image.dtype)], dim=1)
    return Batch(windows.cases, image, labels, annotated)


def with_sides(
    sides: Sides, flipped: Sequence[bool], labels: Tensor, previous: Tensor | None, annotated: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return label maps in which twins were exchanged where a sample was flipped, or merged in every sample.

    Args:
        sides: How.
        flipped: Whether each sample was flipped from left to right.
        labels, previous: (B, Z, Y, X), inside values.
        annotated: (B, K + 1), or None; a twin that was not annotated stays so under its other name.
    """
    struck = [index for index, flip in enumerate(flipped) if flip or sides.handling == "merge_split"]
    if not struck:
        return labels, previous, annotated
    table = _exchange(sides, labels.device)
    labels = _renamed(labels, struck, table)
    if previous is not None:
        previous = _renamed(previous, struck, table)
    if annotated is not None:
        annotated = _twins_annotated(sides, struck, annotated)
    return labels, previous, annotated


def _exchange(sides: Sides, device: torch.device) -> Tensor:
    table = torch.arange(256, device=device)
    for first, second in sides.pairs:
        table[second] = first
        if sides.handling == "swap":
            table[first] = second
    return table


def _renamed(labels: Tensor, struck: Sequence[int], table: Tensor) -> Tensor:
    result = labels.clone()
    result[struck] = table[labels[struck].long()].to(labels.dtype)
    return result


def _twins_annotated(sides: Sides, struck: Sequence[int], annotated: Tensor) -> Tensor:
    result = annotated.clone()
    for first, second in sides.pairs:
        for index in struck:
            if sides.handling == "swap":
                result[index, [first, second]] = annotated[index, [second, first]]
            else:
                result[index, [first, second]] = annotated[index, first] & annotated[index, second]
    return result


def _ahead(
    prepare: Callable[[int], Batch | sampling.Windows], steps: Iterable[int]
) -> Generator[tuple[Batch | sampling.Windows, float], None, None]:
    waiting: deque[Future[Batch | sampling.Windows]] = deque()
    upcoming = iter(steps)
    with _one_thread() as pool:
        try:
            waiting.extend(pool.submit(prepare, step) for step in itertools.islice(upcoming, AHEAD))
            while waiting:
                begun = time.perf_counter()
                prepared = _result(waiting.popleft())
                wait_seconds = time.perf_counter() - begun
                waiting.extend(pool.submit(prepare, step) for step in itertools.islice(upcoming, 1))
                yield prepared, wait_seconds
        finally:
            for item in waiting:
                item.cancel()


@contextlib.contextmanager
def _one_thread() -> Iterator[ThreadPoolExecutor]:
    """Give a thread in which torch computes alone; the caller's torch keeps the threads that it has.

    With a team of its own beside the network's, a machine of n processors would have 2 n threads that wait for one
    another. It also makes a batch's last digits the same whatever the number of processors.
    """
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1, thread_name_prefix="autoseg-feeding") as pool:
        pool.submit(_compute_alone).result()
        # The number is each thread's own, but new threads take the one that was set last.
        torch.set_num_threads(before)
        yield pool


def _compute_alone() -> None:
    torch.get_num_threads()  # the first question fetches the number of new threads, so it comes first
    torch.set_num_threads(1)


def _result(item: Future[Batch | sampling.Windows]) -> Batch | sampling.Windows:
    try:
        return item.result()
    except MemoryError as error:
        raise ResourceError("there is not enough memory for a batch", fix="Plan with less --memory-gb.") from error


def _one_hot(labels: Tensor, structures: int) -> Tensor:
    """Return (B, K, *) from (B, *): the background has no channel."""
    values = torch.arange(1, structures + 1, device=labels.device, dtype=labels.dtype)
    return labels.unsqueeze(1) == values.view(1, -1, *([1] * (labels.dim() - 1)))


def _tensor(array: np.ndarray, device: str) -> Tensor:
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _changed(
    rules: sampling.Rules,
    draws: Sequence[augmentation.Draw],
    image: Tensor,
    labels: Tensor,
    *,
    previous: Tensor | None,
    classes: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what the draws make of the tensors; channels that a case lacks stay zero."""
    kept = kept_channels(draws, image, rules.optional, rules.channels) if rules.optional else None
    image, labels, previous = augmentation.apply(
        draws, image, labels, rules.patch_shape, previous=previous, classes=classes
    )
    return (image if kept is None else image * kept), labels, previous
