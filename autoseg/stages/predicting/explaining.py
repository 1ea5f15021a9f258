"""What in a scan a model looks at where it draws a structure, window by window, back in the scan's geometry."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from autoseg.images.maps import at_home
from autoseg.networks import explaining, patches, sliding_window
from autoseg.networks.explaining import Target
from autoseg.records.configuration import Configuration
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.volumes import Image
from autoseg.stages import preprocessing
from autoseg.stages.predicting.fields import Earlier, Member, network_input

Method = Literal["attention", "gradient"]
EVERYTHING = "all structures"


@dataclass(frozen=True)
class Explanation:
    """What one structure's drawing depends on.

    Attributes:
        target: Name of the structure, or `all structures`.
        field: float32, (Z, Y, X), the scan's geometry: 1 where most is looked at, 0 where nothing is; all 0 where the
            model draws nothing of the target.
        shares: Input channel -> its share of the gradient, adding up to 1; empty for attention.
    """

    target: str
    field: np.ndarray
    shares: dict[str, float]


def method_for(member: Member, wanted: Method | None) -> Method:
    """Return how a model is explained: by attention where every token sees every other, else by gradients.

    Raises:
        UsageError: Attention is wanted of a network that has none, or only within windows; or the network sees
            regions that a first stage proposes, and no whole scan.
    """
    if member.configuration.regions is not None:
        raise UsageError(
            f"{member.name} is a second stage that sees regions only, and cannot be explained over a whole scan",
            fix=f"Explain its first stage, {member.configuration.first_stage}, with --model.",
            code="second_stage",
        )
    attention = explaining.sees_everything(member.networks[0])
    if wanted == "attention" and not attention:
        kind = member.configuration.architecture.kind
        raise UsageError(
            f"{member.name} is a {kind}: no token of it sees all the others, so there is no attention to roll out",
            fix="Leave --method out, or write --method gradient.",
            code="no_attention",
        )
    return wanted or ("attention" if attention else "gradient")


def targets_of(names: Sequence[str], labels: Labels, configuration: Configuration) -> tuple[Target, ...]:
    """Return what is to be explained; without a name everything that is drawn, as one.

    Raises:
        UsageError: Nothing of that name is segmented.
    """
    there = [name for name, _ in labels.targets]
    first = 0 if labels.regions else 1
    regions = bool(labels.regions)
    if not names:
        return (Target(EVERYTHING, tuple(range(first, first + len(there))), regions),)
    found = []
    for name in names:
        if name not in there:
            raise UsageError(f"no structure {name!r} is predicted", fix=f"There are: {', '.join(there)}.")
        channel = _learned_as(there.index(name) + first, configuration)
        found.append(Target(name, (channel,), regions))
    return tuple(found)


def _learned_as(channel: int, configuration: Configuration) -> int:
    """Return the channel in which a structure is learned: that of its twin where both are learned as one."""
    sides = configuration.sides
    if sides is None or sides.handling != "merge_split":
        return channel
    return {second: first for first, second in sides.pairs}.get(channel, channel)


def explain(
    image: Image,
    member: Member,
    *,
    case: str,
    targets: Sequence[Target],
    method: Method,
    channels: Sequence[str],
    previous: Earlier | None = None,
    device: str = "cpu",
    tell: Callable[[float], None] = lambda done: None,
) -> tuple[Explanation, ...]:
    """Return what one network looks at, a map a target.

    Windows lie as in prediction, unflipped, and every voxel counts once over all the windows that see it.

    Args:
        image: A corrected scan in its own geometry.
        member: One fold of one candidate.
        case: For messages.
        targets: What is asked for.
        method: See `method_for`.
        channels: Names of the scan's channels.
        previous: What earlier stages said, where the member is a second stage.
        device: A torch device.
        tell: Called with the fraction that is done.
    """
    configuration = member.configuration
    prepared = preprocessing.prepare(image, None, configuration, case=case)
    tensor = sliding_window.as_tensor(network_input(prepared, member, previous or {}))
    network = member.networks[0]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    summed = _over_windows(network, tensor, configuration, targets=targets, method=method, device=device, tell=tell)
    found = []
    for target, field in zip(targets, summed.numpy(), strict=True):
        strength = field[0] if method == "attention" else np.sqrt(np.square(field).sum(axis=0))
        at_scan = at_home(strength, prepared.passage)
        largest = float(at_scan.max())
        shares = _shares(field, channels, configuration) if method == "gradient" and largest else {}
        found.append(Explanation(target.name, at_scan / largest if largest else at_scan, shares))
    return tuple(found)


def _over_windows(
    network: nn.Module,
    image: Tensor,
    configuration: Configuration,
    *,
    targets: Sequence[Target],
    method: Method,
    device: str,
    tell: Callable[[float], None],
) -> Tensor:
    """Return the sum of all windows' maps, (T, 1 or C, Z, Y, X), on the CPU."""
    patch = tuple(configuration.patch_shape)
    padded, before = patches.pad(image, patch)
    starts = list(
        itertools.product(
            *(patches.window_starts(size, step, 0.5) for size, step in zip(padded.shape[1:], patch, strict=True))
        )
    )
    importance = patches.importance(patch)
    total = torch.zeros(padded.shape[1:])
    for start in starts:
        patches.window_of(total, start, patch).add_(importance)
    layers = 1 if method == "attention" else image.shape[0]
    summed = torch.zeros(len(targets), layers, *padded.shape[1:])
    for number, start in enumerate(starts):
        weight = importance / patches.window_of(total, start, patch)
        found = _window(network, patches.window_of(padded, start, patch), targets, weight, method=method, device=device,
                        flat=configuration.dimensions == 2)  # fmt: skip
        patches.window_of(summed, start, patch).add_(found)
        tell((number + 1) / len(starts))
    own = tuple(slice(first, first + size) for first, size in zip(before, image.shape[1:], strict=True))
    return summed[(slice(None), slice(None), *own)]


def _window(
    network: nn.Module,
    window: Tensor,
    targets: Sequence[Target],
    weight: Tensor,
    *,
    method: Method,
    device: str,
    flat: bool,
) -> Tensor:
    """Return one window's maps, (T, 1 or C, *patch), on the CPU; 2D networks see it without its z axis."""
    inputs, counted = (item[..., 0, :, :] if flat else item for item in (window, weight))
    inputs, counted = inputs[None].float().to(device), counted.to(device)
    if method == "attention":
        found = explaining.rollout(network, inputs, targets, counted)[0][:, None]
    else:
        found = explaining.gradients(network, inputs, targets, counted)[0]
    return (found[..., None, :, :] if flat else found).float().cpu()


def _shares(field: np.ndarray, channels: Sequence[str], configuration: Configuration) -> dict[str, float]:
    """Return how much of the gradient falls on each channel, its neighbouring slices together."""
    strength = np.abs(field).sum(axis=(1, 2, 3))
    image_channels = len(channels) * (2 * configuration.context_slices + 1)
    shares = {
        name: float(strength[:image_channels][index :: len(channels)].sum()) for index, name in enumerate(channels)
    }
    if len(strength) > image_channels and configuration.previous is not None:
        shares[f"prediction of {configuration.previous.configuration}"] = float(strength[image_channels:].sum())
    whole = sum(shares.values())
    return {name: share / whole for name, share in shares.items()}
