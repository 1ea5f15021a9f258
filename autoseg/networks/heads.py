"""A network's last layer apart from the rest: it maps channels linearly, so windows may be added up before it.

The weighted mean of a window's logits is the head of the weighted mean of its features. With a hundred classes there
are fewer features than logits: the sum under the windows is several times smaller, and the head runs once a voxel
instead of once a window and flip.
"""

# B batch, C feature channels, K output channels, F fields, N networks, Z Y X voxel

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoseg.networks.staged import StagedNetwork
from autoseg.networks.unet import UNet

# Whole vectors of the processor: a product's remainder may be rounded otherwise, and what a voxel becomes would then
# hang on how an image is cut.
COLUMNS = 64


@dataclass(frozen=True)
class Head:
    """The last layers of the networks of a sweep.

    Attributes:
        weights: (K, C) float32 each.
        biases: (K,) each.
        merge: Whether logits are the mean of the networks' logits instead of a field a network.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    merge: bool

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (F, K, ...), float32, of the features (N, C, ...) of every network."""
        places = features.shape[2:]
        flat = features.reshape(*features.shape[:2], -1)
        count = flat.shape[-1]
        flat = functional.pad(flat, (0, -count % COLUMNS))
        results: list[Tensor] = []
        for weight, bias, field in zip(self.weights, self.biases, flat):
            found = torch.addmm(bias[:, None], weight, field)
            if self.merge and results:
                results[0] += found
            else:
                results.append(found)
        mean = results[0].div_(len(self.weights)) if self.merge else None
        stacked = torch.stack(results) if mean is None else mean[None]
        return stacked[..., :count].unflatten(-1, places)


def linear_head(network: nn.Module) -> nn.Conv2d | nn.Conv3d | None:
    """Return the convolution of one voxel that a network ends in, or None where it is not known to end in one."""
    if not isinstance(network, UNet | StagedNetwork):
        return None
    last = network.heads[-1]
    if isinstance(last, nn.Sequential):
        last = last[-1]
    if not isinstance(last, nn.Conv2d | nn.Conv3d) or set(last.kernel_size) != {1} or last.groups != 1:
        return None
    return last


def put_off(networks: Sequence[nn.Module], *, merge: bool) -> bool:
    """Whether adding up features holds less than adding up logits."""
    heads = [head for head in map(linear_head, networks) if head is not None]
    if not heads or len(heads) < len(networks):
        return False
    return feature_count(networks) < heads[0].out_channels * (1 if merge else len(heads))


def feature_count(networks: Sequence[nn.Module]) -> int:
    """Return how many channels the networks that have a head give it, all together."""
    return sum(head.in_channels for head in map(linear_head, networks) if head is not None)


def heads_of(networks: Sequence[nn.Module], device: torch.device, *, merge: bool) -> Head:
    """Return the heads of networks that have one."""
    weights, biases = [], []
    for head in filter(None, map(linear_head, networks)):
        weights.append(head.weight.detach().flatten(1).to(device, torch.float32))
        bias = torch.zeros(head.out_channels) if head.bias is None else head.bias.detach()
        biases.append(bias.to(device, torch.float32))
    return Head(tuple(weights), tuple(biases), merge)


def without_head(network: nn.Module) -> nn.Module:
    """Return the network up to its head, with the same layers: in evaluation it gives the features of every voxel."""
    body = copy.copy(network)
    # The copy has the modules' own dict in common with the network until it gets one of its own.
    body._modules = dict(network._modules)
    heads = list(network.heads)  # type: ignore[arg-type]
    last = heads[-1]
    heads[-1] = last[:-1] if isinstance(last, nn.Sequential) else nn.Identity()
    body.heads = nn.ModuleList(heads)
    return body
