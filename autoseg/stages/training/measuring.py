"""Dice of each structure or region while a run goes on, on patches that are not changed at random."""

# B batch, K structures or regions, Z Y X voxel

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autoseg.networks import step
from autoseg.records.labels import Labels
from autoseg.records.preset import Augmentation
from autoseg.records.volumes import PreprocessedCase
from autoseg.stages.training import feeding, sampling
from autoseg.stages.training.feeding import Batch
from autoseg.stages.training.learner import Learner
from autoseg.stages.training.request import stable_seed

FEWEST, MOST = 2, 32
SHARE = 5
STILL = Augmentation(
    **{name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}  # type: ignore[arg-type]
)


def monitored(
    rules: sampling.Rules, cases: Sequence[PreprocessedCase], *, epoch_length: int, device: str
) -> Iterator[Batch]:
    """Yield the same patches every time: half of them on structures, as many batches as a fifth of an epoch has."""
    still = replace(rules, seed=stable_seed("monitor", rules.seed), augmentation=STILL, foreground_fraction=0.5)
    count = min(MOST, max(FEWEST, epoch_length // SHARE))
    with contextlib.closing(feeding.batches(still, cases, range(count), device=device)) as batches:
        for batch, _ in batches:
            yield batch


@torch.no_grad()
def dice(learner: Learner, batches: Iterable[Batch], labels: Labels) -> dict[str, float]:
    """Return Dice by name, voxels of all batches together; nan where nothing was there or predicted.

    The network is left as it was. Ignored voxels, and structures of samples where they were not annotated, do not
    count.
    """
    sums: list[Tensor] = []
    learner.network.eval()
    try:
        for batch in batches:
            sums.append(_overlaps(learner, batch, labels))
    finally:
        learner.network.train()
    hit, predicted, true = torch.stack(sums).sum(0).tolist()
    names = [name for name, _ in labels.targets]
    return {
        name: 2 * h / (p + t) if p + t else float("nan")
        for name, h, p, t in zip(names, hit, predicted, true, strict=True)
    }


def mean(scores: dict[str, float]) -> float:
    """Return the mean of the scores that are numbers; nan where none is."""
    numbers = [value for value in scores.values() if value == value]
    return sum(numbers) / len(numbers) if numbers else float("nan")


@contextlib.contextmanager
def averaged(learner: Learner) -> Iterator[None]:
    """Put the moving average in the place of the weights for a while; afterwards they are the same to the last bit."""
    assert learner.average is not None
    tensors = [item.detach() for item in step.averaged_tensors(learner.network)]
    kept = [item.clone() for item in tensors]
    try:
        for tensor, average in zip(tensors, learner.average.tensors, strict=True):
            tensor.copy_(average)
        yield
    finally:
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.copy_(before)


def _overlaps(learner: Learner, batch: Batch, labels: Labels) -> Tensor:
    """Return float64 (3, K): voxels hit, predicted and true."""
    image, truth = batch.image, batch.labels
    if learner.dimensions == 2:
        image, truth = image[:, :, 0], truth[:, 0]
    with step.autocast(image.device, learner.precision):
        logits = learner.network(image)
    logits = (logits if isinstance(logits, Tensor) else logits[0]).float()
    values = torch.ones_like(truth) if labels.ignore_value is None else (truth != labels.ignore_value)
    counted = values.bool().flatten(1)
    predicted = (logits > 0) if labels.regions else _one_hot(logits.argmax(1), labels)
    rows = []
    for index, (_, inside) in enumerate(labels.targets):
        valid = counted
        if batch.annotated is not None:
            valid = valid & batch.annotated[:, list(inside)].all(1)[:, None]
        is_true = torch.isin(truth, truth.new_tensor(inside)).flatten(1) & valid
        is_predicted = predicted[:, index].flatten(1) & valid
        rows.append(torch.stack([(is_true & is_predicted).sum(), is_predicted.sum(), is_true.sum()]))
    return torch.stack(rows, dim=1).double()


def _one_hot(chosen: Tensor, labels: Labels) -> Tensor:
    return torch.stack([chosen == item.value for item in labels.structures], dim=1)
