"""The softmax part of a loss, sample by sample, without a one-hot target and without keeping probabilities.

With a hundred classes the float32 probabilities of a batch outweigh the network. They are made twice, in the forward
and in the backward pass, a few samples at a time, and only the logits are kept in between.
"""

# B batch, K classes, N voxels of a patch

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_NUMBERS = 2**24


def softmax_sums(
    logits: Tensor, truth: Tensor, valid: Tensor | None, annotated: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return -log p of the truth at each voxel, and the probabilities summed over voxels.

    Args:
        logits: (B, K, N), any floating type.
        truth: Class of each voxel, int64, (B, N).
        valid: float32, (B, N): 0 where a voxel does not count, else 1; None when all count.
        annotated: Bool, (B, K): classes that are False count as background where the truth is background.

    Returns:
        float32 (B, N), 0 where a voxel does not count; float32 (B, K) over voxels that count.
    """
    return _SoftmaxSums.apply(logits, truth, valid, annotated)


def sum_by_label(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (B, classes): for each class, the sum of `values` (B, N) over voxels whose `labels` (B, N) name it."""
    return _SumByLabel.apply(values, labels, classes)


class _SoftmaxSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor, valid: Tensor | None, annotated: Tensor | None) -> Any:
        ctx.save_for_backward(logits, truth, valid, annotated)
        surprise = logits.new_empty(truth.shape, dtype=torch.float32)
        sums = logits.new_empty(logits.shape[:2], dtype=torch.float32)
        for part in _chunks(logits):
            log_p = torch.log_softmax(logits[part], dim=1, dtype=torch.float32)
            chosen = log_p.gather(1, truth[part, None])[:, 0]
            if annotated is not None:
                background = log_p.masked_fill(_hidden(annotated[part]), float("-inf")).logsumexp(1)
                chosen = torch.where(truth[part] == 0, background, chosen)
            surprise[part] = -chosen if valid is None else -chosen * valid[part]
            p = log_p.exp_()
            sums[part] = p.sum(2) if valid is None else torch.bmm(p, valid[part, :, None])[:, :, 0]
        return surprise, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, surprise_grad: Tensor, sums_grad: Tensor) -> Any:
        logits, truth, valid, annotated = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part in _chunks(logits):
            log_p = torch.log_softmax(logits[part], dim=1, dtype=torch.float32)
            p, voxel, total = log_p.exp(), surprise_grad[part], sums_grad[part]
            # d sum_j / d logit_k = sum over voxels of p_k (1[j = k] - p_j), and d -log p_t / d logit_k = p_k - t_k.
            slope = torch.bmm(total[:, None], p)[:, 0]
            total = total[:, :, None]
            if valid is not None:
                voxel, slope, total = voxel * valid[part], slope * valid[part], total * valid[part, None]
            grad = p.mul_(total + (voxel - slope)[:, None])
            result[part] = _subtract_truth(
                grad, log_p, truth[part], voxel, None if annotated is None else annotated[part]
            )
        return result, None, None, None


class _SumByLabel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, labels: Tensor, classes: int) -> Tensor:
        ctx.save_for_backward(labels)
        if values.device.type == "cpu":
            return values.new_zeros(len(values), classes).scatter_add_(1, labels, values)
        # On a card, adding many voxels into few sums by atomics is slow and differs from run to run.
        zero = values.new_zeros(())
        return torch.stack([torch.where(labels == k, values, zero).sum(1) for k in range(classes)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (labels,) = ctx.saved_tensors
        return grad.gather(1, labels), None, None


def _subtract_truth(grad: Tensor, log_p: Tensor, truth: Tensor, voxel: Tensor, annotated: Tensor | None) -> Tensor:
    """Return `grad` less `voxel` times the truth's share of each class: one-hot, or spread over merged classes."""
    if annotated is None:
        return grad.scatter_add_(1, truth[:, None], -voxel[:, None])
    background = truth == 0
    grad.scatter_add_(1, truth[:, None], -(voxel * ~background)[:, None])
    merged = log_p.masked_fill_(_hidden(annotated), float("-inf"))
    share = (merged - merged.logsumexp(1, keepdim=True)).exp_()
    return grad.sub_(share.mul_((voxel * background)[:, None]))


def _hidden(annotated: Tensor) -> Tensor:
    """Return bool (B, K, 1): what is not merged into the background, that is all annotated structures."""
    index = torch.arange(annotated.shape[1], device=annotated.device)
    return (annotated & (index > 0))[:, :, None]


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Yield slices of samples, each of a bounded number of logits."""
    step = max(1, CHUNK_NUMBERS // logits[0].numel())
    for start in range(0, len(logits), step):
        yield slice(start, start + step)
