"""Every network that a preset or a model file may name: `Architecture.kind` -> how it is built.

The mapping is explicit: a name found in a file can choose one of these entries, or one that an installed package adds
under the entry point `autoseg.networks` (a name -> a `Kind`), and nothing else. A package cannot take the place of a
kind that is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

import torch
from torch import Tensor, nn

from autoseg.networks import (
    deeplab,
    mednext,
    primus,
    resunet_pp,
    segresnet,
    staged,
    swin_unetr,
    text_head,
    unet,
    unetr,
    vit,
)
from autoseg.networks.arguments import nearest
from autoseg.networks.blocks import NothingDrawn
from autoseg.networks.kinds import Kind
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from autoseg.records.geometry import Shape

__all__ = ["GROUP", "KINDS", "Kind", "build", "divisor", "grown", "min_shape", "outline", "unfilled"]

GROUP = "autoseg.networks"


_UNET = Kind(build=unet.build, divisor=staged.divisor, min_shape=staged.min_shape)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "unet": _UNET,
        "residual_unet": _UNET,
        "attention_unet": _UNET,
        "unetr": unetr.KIND,
        "swin_unetr": swin_unetr.KIND,
        "primus": primus.KIND,
        "vit_2d": vit.KIND,
        "text_guided_unet": Kind(build=text_head.build, divisor=staged.divisor, min_shape=staged.min_shape),
        "segresnet": Kind(build=segresnet.build, divisor=staged.divisor, min_shape=staged.min_shape),
        "mednext": Kind(build=mednext.build, divisor=staged.divisor, min_shape=staged.min_shape, grown=mednext.upkern),
        "resunet_pp": Kind(build=resunet_pp.build, divisor=staged.divisor, min_shape=staged.min_shape),
        "deeplab_v3plus": Kind(build=deeplab.build, divisor=deeplab.divisor, min_shape=deeplab.min_shape),
    }
)


def build(architecture: Architecture) -> nn.Module:
    """Return the network, in training mode, its weights freshly drawn from torch's generator.

    Raises:
        UsageError: The kind is unknown (the nearest is named), or an argument is wrong (its key is named).
    """
    return _kind(architecture).build(architecture)


def unfilled(architecture: Architecture) -> nn.Module:
    """Return the network for weights that are there already: its own are not drawn.

    Raises:
        UsageError: As `build`.
    """
    with NothingDrawn():
        return build(architecture)


def outline(architecture: Architecture) -> nn.Module:
    """Return the network without memory for its weights: names and shapes.

    Raises:
        UsageError: As `build`.
    """
    with torch.device("meta"), NothingDrawn():
        return build(architecture)


def divisor(architecture: Architecture) -> Shape:
    """Return what each patch axis (z, y, x) must be a multiple of; 1 for z in 2D.

    Raises:
        UsageError: As `build`.
    """
    return _kind(architecture).divisor(architecture)


def min_shape(architecture: Architecture) -> Shape:
    """Return the smallest patch (z, y, x) that the network can work on; 1 for z in 2D.

    Raises:
        UsageError: As `build`.
    """
    return _kind(architecture).min_shape(architecture)


def grown(architecture: Architecture, tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return weights for `network`, smaller kernels of a like network brought to its size where its kind knows how.

    Args:
        architecture: Of `network`.
        tensors: Name -> tensor, as `state_dict` names them; not changed.
        network: Not changed.

    Raises:
        UsageError: As `build`.
    """
    grow = _kind(architecture).grown
    return dict(tensors) if grow is None else grow(tensors, network)


def _kind(architecture: Architecture) -> Kind:
    if architecture.kind in KINDS:
        return KINDS[architecture.kind]
    added = _added()
    if architecture.kind not in added:
        raise UsageError(
            f"there is no network {architecture.kind!r}",
            fix=nearest(architecture.kind, (*KINDS, *added)),
            code="unknown_network",
        )
    return _loaded(added[architecture.kind])


def _added() -> dict[str, EntryPoint]:
    """Return the kinds that installed packages add; their code is loaded only when one is used."""
    return {item.name: item for item in entry_points(group=GROUP) if item.name not in KINDS}


@cache
def _loaded(point: EntryPoint) -> Kind:
    found = point.load()
    if not isinstance(found, Kind):
        raise UsageError(
            f"the entry point {point.name!r} of group {GROUP} is {type(found).__name__}, not a Kind",
            file=point.value,
            fix="Let it name an autoseg.networks.catalog.Kind.",
            code="bad_entry_point",
        )
    return found
