"""What a network looks at where it draws a structure: attention rollout, and gradients of its logits.

Both start from the voxels of a patch that were given to a target, each with a weight, and lead back to the input.
"""

# B batch, C channel, K output channels, N token, T targets; a patch is (z, y, x) voxels, (y, x) in 2D

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks.transformer import Attention, Block, Positions

_MODES = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Target:
    """Something that is drawn.

    Attributes:
        name: For people.
        channels: Output channels that stand for it; a voxel belongs to it where one of them wins.
        regions: Whether channels are sigmoids of their own, which win above 0, rather than one softmax.
    """

    name: str
    channels: tuple[int, ...]
    regions: bool = False

    def logits(self, logits: Tensor) -> Tensor:
        """Return the largest of its logits (...) of (K, ...)."""
        return logits[list(self.channels)].amax(0)

    def drawn(self, logits: Tensor) -> Tensor:
        """Return bool (...): where it is drawn, of (K, ...)."""
        if self.regions:
            return self.logits(logits) > 0
        return torch.isin(logits.argmax(0), torch.tensor(self.channels, device=logits.device))


def sees_everything(network: nn.Module) -> bool:
    """Return whether every token of the network sees every other, so that its attention can be rolled out."""
    layers, positions = getattr(network, "layers", None), getattr(network, "positions", None)
    return (
        isinstance(positions, Positions)
        and isinstance(layers, nn.ModuleList)
        and len(layers) > 0
        and all(isinstance(layer, Block) for layer in layers)
    )


@torch.no_grad()
def rollout(network: nn.Module, patch: Tensor, targets: Sequence[Target], weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the tokens look that draw each target.

    Each layer keeps half of a token and takes the other half from where its heads look, on the average (the shortcut
    counts as much as the attention); layers are multiplied, from the last to the first. Heads, norms and MLPs are not
    told apart, and skips that leave an early layer go the way of the last.

    Args:
        network: One that `sees_everything`, in evaluation mode.
        patch: (1, C, *patch).
        targets: What is asked for.
        weight: (*patch), how much each voxel counts.

    Returns:
        (T, *patch), adding up to the weight of the target's voxels; and that weight, (T,).

    Source:
        Abnar and Zuidema 2020, arXiv:2005.00928.
    """
    logits, seen, grid = _watched(network, patch)
    counted = torch.stack([item.drawn(logits) * weight for item in targets])
    shape = counted.shape[1:]
    mass = counted.flatten(1).sum(1)
    tokens = F.interpolate(counted[None], size=grid, mode="area")[0].flatten(1)
    tokens = tokens * (mass / tokens.sum(1).clamp(min=1e-12))[:, None]
    for module, inputs, angles in reversed(seen):
        tokens = (tokens + tokens @ module.shares(inputs, angles=angles)[0].mean(0)) / 2
    field = F.interpolate(tokens.reshape(1, -1, *grid), size=shape, mode=_MODES[len(grid)], align_corners=False)[0]
    scale = mass / field.flatten(1).sum(1).clamp(min=1e-12)
    return field * scale.reshape(-1, *(1 for _ in shape)), mass


def _watched(
    network: nn.Module, patch: Tensor
) -> tuple[Tensor, list[tuple[Attention, Tensor, Tensor | None]], tuple[int, ...]]:
    """Return the logits (K, *patch), what went into each layer's attention, and the grid of tokens."""
    seen: list[tuple[Attention, Tensor, Tensor | None]] = []
    grids: list[tuple[int, ...]] = []

    def keep(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        assert isinstance(module, Attention)
        seen.append((module, arguments[0], named.get("angles")))

    def measure(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        grids.append(tuple(output.shape[2:]))

    layers, positions = network.layers, network.positions
    assert isinstance(layers, nn.ModuleList)
    assert isinstance(positions, nn.Module)
    hooks = [positions.register_forward_hook(measure)]
    for layer in layers:
        assert isinstance(layer, Block)
        hooks.append(layer.attention.register_forward_pre_hook(keep, with_kwargs=True))
    try:
        logits = network(patch)[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen, grids[0]


def gradients(network: nn.Module, patch: Tensor, targets: Sequence[Target], weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return how the logits of each target's own voxels change with each voxel of the input.

    Args:
        network: Any, in evaluation mode; its parameters get no gradient.
        patch: (1, C, *patch).
        targets: What is asked for.
        weight: (*patch), how much each voxel counts.

    Returns:
        (T, C, *patch), the derivative of the weighted sum of logits over the voxels where the target is drawn; and
        the weight of these voxels, (T,).

    Source:
        Simonyan et al. 2013, arXiv:1312.6034; over the voxels of a structure as Vinogradova et al. 2020,
        arXiv:2002.11434.
    """
    patch = patch.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = network(patch)[0]
        counted = torch.stack([item.drawn(logits.detach()) * weight for item in targets])
        mass = counted.flatten(1).sum(1)
        found = torch.zeros(len(targets), *patch.shape[1:], device=patch.device)
        wanted = [index for index in range(len(targets)) if mass[index] > 0]
        for index in wanted:
            score = (targets[index].logits(logits) * counted[index]).sum()
            found[index] = torch.autograd.grad(score, patch, retain_graph=index != wanted[-1])[0][0]
    return found, mass
