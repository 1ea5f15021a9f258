"""What training minimises: soft Dice or Tversky with cross-entropy, regions, partial annotation, deep supervision.

Everything is computed in float32, without reading a value back to the host and without a branch on data.
"""

# B batch, K output channels (background and structures, or regions), S structures, Z Y X voxel, N voxels of a patch

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from autoseg.networks import additions
from autoseg.networks.blobs import blob_loss
from autoseg.networks.softmax_sums import softmax_sums, sum_by_label
from autoseg.records.labels import Labels
from autoseg.records.preset import Recipe

SMOOTH = 1e-5
FOCAL_EXPONENT = 2
TOPK_FRACTION = 0.1
LEAST_WEIGHT = 1e-3

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Target:
    """What the network should have said.

    Attributes:
        labels: Inside values, integer, (B, Z, Y, X), or (B, Y, X) for a 2D network.
        annotated: Bool, (B, S + 1): which inside values were annotated in each sample; index 0, the background, is
            True. None when every structure was annotated everywhere.
    """

    labels: Tensor
    annotated: Tensor | None = None


Loss = Callable[[Tensor | Sequence[Tensor], Target], Tensor]
LevelLoss = Callable[[Tensor, Target], Tensor]


def make_loss(
    recipe: Recipe,
    labels: Labels,
    *,
    batch_dice: bool,
    reduce: Reduce | None = None,
    ranks: int = 1,
    weights: tuple[float, ...] | None = None,
) -> Loss:
    """Return the loss of a recipe: called with logits (finest first) and a Target, it gives a float32 scalar.

    One that an installed package adds (`additions.LossMaker`) stands in the place of these terms.

    Structures are learnt with a softmax, regions with a sigmoid each. Where a structure was not annotated in a
    sample, it counts as part of that sample's background (cross-entropy) and is left out of its Dice; a region
    that holds such a structure is left out of that sample altogether.

    Args:
        recipe: `loss` says which terms.
        labels: What is segmented.
        batch_dice: Dice over the batch at once rather than per sample.
        reduce: Sums a tensor over all ranks, so that a batch spread over several devices has one Dice and one mean
            over its voxels; it must pass gradients. The mean of the ranks' losses is then the loss of the whole
            batch. Only the hardest voxels of `dice_topk` are sought in each share by itself.
        ranks: How many `reduce` sums over; all have as many samples.
        weights: Of the cross-entropy, one a class with the background first (`class_weights.structure_weights`), or
            with regions one a region: how many times a voxel inside it counts. None weighs all alike.

    Raises:
        UsageError: There is no such loss.

    Source:
        Drozdzal et al. 2016 (Dice with deep supervision), arXiv:1608.04117; Isensee et al. 2021 (the sum);
        Shi et al. 2021 (marginal loss for partial labels), arXiv:2007.03868; Lin et al. 2017 (focal); Salehi et al.
        2017 (Tversky), arXiv:1706.05721.
    """
    level: LevelLoss = additions.loss(recipe, labels) or partial(
        _region_loss if labels.regions else _structure_loss,
        kind=recipe.loss,
        labels=labels,
        dice=partial(_dice_loss, batch=batch_dice, reduce=reduce, ranks=ranks, costs=_costs(recipe)),
        shared=partial(_mean_over_ranks, reduce=reduce, ranks=ranks),
        weights=_region_weights(recipe, labels, weights) if labels.regions else weights,
    )
    if recipe.blob_weight == 0:
        return partial(_deep_loss, level)
    return partial(_with_blobs, partial(_deep_loss, level), labels=labels, weight=recipe.blob_weight)


def _costs(recipe: Recipe) -> tuple[float, float]:
    """Return what a false positive and a false negative cost beside a hit; Dice is Tversky with halves."""
    return (recipe.tversky_alpha, recipe.tversky_beta) if recipe.loss == "tversky_ce" else (0.5, 0.5)


def _region_weights(recipe: Recipe, labels: Labels, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if weights is None and recipe.positive_weight == 1:
        return None
    return tuple(recipe.positive_weight * item for item in weights or (1.0,) * len(labels.regions))


def _with_blobs(
    loss: Loss, logits: Tensor | Sequence[Tensor], target: Target, *, labels: Labels, weight: float
) -> Tensor:
    """Add the blob-wise term of the finest output: in coarser ones small pieces are gone."""
    finest = logits if isinstance(logits, Tensor) else logits[0]
    with torch.autocast(finest.device.type, enabled=False):
        return loss(logits, target) + weight * _blob_term(finest.float(), target, labels)


def _blob_term(logits: Tensor, target: Target, labels: Labels) -> Tensor:
    """What is annotated and not background is one foreground; where structures are missing it is not known."""
    values, valid = _split_ignored(target.labels, labels)
    if labels.regions:
        inside = torch.sigmoid(logits).amax(1)
        truth = region_targets(values, labels).amax(1) > 0
    else:
        inside = 1 - torch.softmax(logits, 1)[:, 0]
        truth = values > 0
    counted = torch.ones_like(inside) if valid is None else valid.float()
    if target.annotated is not None:
        counted = counted * target.annotated.all(1).view(-1, *([1] * (inside.dim() - 1)))
    return blob_loss(inside, truth, counted)


def output_weights(count: int) -> tuple[float, ...]:
    """Return the weights of `count` outputs, finest first: halved from one to the next, the coarsest 0, sum 1."""
    if count == 1:
        return (1.0,)
    raw = [0.5**i for i in range(count - 1)]
    return (*(value / sum(raw) for value in raw), 0.0)


def shrink_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Return (B, *shape) labels by the nearest-exact rule: each voxel takes the one at its own centre."""
    for axis, size in enumerate(shape, start=1):
        labels = _shrink_axis(labels, axis, size)
    return labels


def _shrink_axis(labels: Tensor, axis: int, size: int) -> Tensor:
    there = labels.shape[axis]
    if there == size:
        return labels
    if there % size == 0:
        # A view instead of a copy: the usual case, strides of the network.
        ratio = there // size
        return labels[(slice(None),) * axis + (slice(ratio // 2, None, ratio),)]
    centres = 2 * torch.arange(size, device=labels.device) + 1
    return labels.index_select(axis, centres * there // (2 * size))


def _deep_loss(level: LevelLoss, logits: Tensor | Sequence[Tensor], target: Target) -> Tensor:
    outputs = [logits] if isinstance(logits, Tensor) else list(logits)
    with torch.autocast(outputs[0].device.type, enabled=False):
        terms = [
            weight * level(output, Target(shrink_labels(target.labels, output.shape[2:]), target.annotated))
            for output, weight in zip(outputs, output_weights(len(outputs)))
            if weight > 0
        ]
        return torch.stack(terms).sum()


def _structure_loss(
    logits: Tensor,
    target: Target,
    *,
    kind: str,
    labels: Labels,
    dice: Callable[..., Tensor],
    shared: Reduce,
    weights: tuple[float, ...] | None,
) -> Tensor:
    """Softmax over background and structures; `logits` (B, K, *)."""
    truth, valid = _split_ignored(target.labels, labels)
    truth, annotated = truth.flatten(1).long(), target.annotated
    valid = None if valid is None else valid.flatten(1).float()
    if annotated is not None:
        # A structure that was drawn although it counts as not annotated says nothing either.
        truth = truth * annotated.gather(1, truth)
    surprise, predicted = softmax_sums(logits.flatten(2), truth, valid, annotated)
    counts = torch.ones_like(surprise) if valid is None else valid
    heavy = counts if weights is None else counts * surprise.new_tensor(weights)[truth]
    voxels = _voxel_loss(kind, surprise, heavy, shared)
    if kind == "ce":
        return voxels
    classes = logits.shape[1]
    hit = sum_by_label(torch.exp(-surprise) * counts, truth, classes)
    true = sum_by_label(counts, truth, classes)
    counted = torch.ones_like(true) if annotated is None else annotated.float()
    return voxels + dice(torch.stack((hit[:, 1:], predicted[:, 1:], true[:, 1:])), counted[:, 1:])


def _region_loss(
    logits: Tensor,
    target: Target,
    *,
    kind: str,
    labels: Labels,
    dice: Callable[..., Tensor],
    shared: Reduce,
    weights: tuple[float, ...] | None,
) -> Tensor:
    """A sigmoid a region; `logits` (B, K, *)."""
    logits = logits.flatten(2).float()
    truth = region_targets(target.labels, labels).flatten(2)
    counted = _annotated_regions(logits, target.annotated, labels)
    _, valid = _split_ignored(target.labels, labels)
    counts = counted[:, :, None].expand_as(logits)
    counts = counts if valid is None else counts * valid.flatten(1)[:, None]
    surprise = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    heavy = counts if weights is None else counts * (1 + truth * (truth.new_tensor(weights)[:, None] - 1))
    voxels = _voxel_loss(kind, surprise, heavy, shared)
    if kind == "ce":
        return voxels
    probabilities = torch.sigmoid(logits) * counts
    sums = torch.stack(((probabilities * truth).sum(2), probabilities.sum(2), (truth * counts).sum(2)))
    return voxels + dice(sums, counted)


def region_targets(labels: Tensor, record: Labels) -> Tensor:
    """Return float32 (B, K, *), 1 where a voxel's inside value belongs to the region."""
    maps = []
    for region in record.regions:
        inside = labels == region.values[0]
        for value in region.values[1:]:
            inside = inside | (labels == value)
        maps.append(inside)
    return torch.stack(maps, dim=1).float()


def _annotated_regions(logits: Tensor, annotated: Tensor | None, labels: Labels) -> Tensor:
    """Return float32 (B, K), 1 where all structures of a region were annotated."""
    if annotated is None:
        return logits.new_ones(logits.shape[:2])
    rows = []
    for region in labels.regions:
        row = annotated[:, region.values[0]]
        for value in region.values[1:]:
            row = row & annotated[:, value]
        rows.append(row)
    return torch.stack(rows, dim=1).float()


def _split_ignored(values: Tensor, labels: Labels) -> tuple[Tensor, Tensor | None]:
    """Return labels with ignored voxels as background, and where voxels count (None: everywhere)."""
    if labels.ignore_value is None:
        return values, None
    valid = values != labels.ignore_value
    return values * valid, valid


def _mean_over_ranks(total: Tensor, *, reduce: Reduce | None, ranks: int) -> Tensor:
    """Return what a mean is divided by, as the ranks have it on average; no gradient goes through it."""
    return total if reduce is None else reduce(total.detach()) / ranks


def _voxel_loss(kind: str, surprise: Tensor, weights: Tensor, shared: Reduce) -> Tensor:
    """Return the weighted mean of -log p, or of its focal or hardest-voxels form; 0 where nothing counts."""
    if kind == "dice_focal":
        surprise = surprise * (1 - torch.exp(-surprise)) ** FOCAL_EXPONENT
    surprise = surprise * weights
    if kind == "dice_topk":
        surprise, chosen = surprise.flatten().topk(max(1, round(TOPK_FRACTION * surprise.numel())), sorted=False)
        weights = weights.flatten()[chosen]
    # Not below the least weight of a voxel: rare classes may weigh more than 1, frequent ones much less.
    return surprise.sum() / shared(weights.sum()).clamp(min=LEAST_WEIGHT)


def _dice_loss(
    sums: Tensor,
    counted: Tensor,
    *,
    batch: bool,
    reduce: Reduce | None,
    ranks: int,
    costs: tuple[float, float],
) -> Tensor:
    """Return 1 - mean soft Tversky index over what is `counted`, 0 or 1, (B, classes).

    `sums` are hits, predicted and true voxels: (3, B, classes).
    """
    sums = sums * counted
    if batch:
        sums, counted = sums.sum(1), counted.amax(0)
        if reduce is not None:
            # A class counts when any rank saw it annotated.
            sums, counted = reduce(sums), reduce(counted.detach().clone()).clamp(max=1)
    # hit + alpha (predicted - hit) + beta (true - hit), doubled, so that halves give Dice to the last digit.
    alpha, beta = costs
    below = 2 * (1 - alpha - beta) * sums[0] + 2 * alpha * sums[1] + 2 * beta * sums[2]
    dice = (2 * sums[0] + SMOOTH) / (below + SMOOTH)
    total = counted.sum() if batch else _mean_over_ranks(counted.sum(), reduce=reduce, ranks=ranks)
    return ((1 - dice) * counted).sum() / total.clamp(min=1 / ranks)
