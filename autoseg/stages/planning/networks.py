"""From a preset and a topology to a network described to the last number; one rule of shape a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from types import MappingProxyType

from pydantic import JsonValue

from autoseg.networks.arguments import nearest
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.preset import NetworkPreset, Recipe
from autoseg.stages.planning.reasons import words
from autoseg.stages.planning.topology import Numbers, Rule, Topology, design, pyramid

Arguments = dict[str, JsonValue]
SHAPES = "autoseg.shapes"
"""Entry points of installed packages: kind -> a Family."""


@dataclass(frozen=True)
class Family:
    """How the networks of one kind follow from the data.

    Attributes:
        arguments: Preset and topology -> what the catalog builds from; the preset's own arguments win over these.
        halvings: Of the finest axis where the kind fixes it (4: tokens of 16 voxels); 0 where the size decides.
        max_stages: Resolutions at most, unless the preset says so; 0 for no bound.
        attention: Whether a step is quadratic in the voxels of a patch.
        speed: Operations a second as a fraction of those of dense convolutions, roughly; for the forecast alone.
        cpu_speed: The same on a CPU.
        convolutional: Whether every stage keeps its convolutions' outputs, so that counting them bounds the memory.
    """

    arguments: Callable[[NetworkPreset, Topology], Arguments]
    halvings: int = 0
    max_stages: int = 0
    attention: bool = False
    convolutional: bool = False
    speed: float = 1.0
    cpu_speed: float = 1.0


def convolutions(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return what the U-Net and its relatives take: features that double from stage to stage, strides, kernels."""
    stages = len(topology.strides)
    most = network.max_features_2d if len(topology.patch) == 2 else network.max_features_3d
    return {
        "features": [min(most, network.features * 2**stage) for stage in range(stages)],
        "strides": [list(stride) for stride in topology.strides],
        "kernels": [list(kernel) for kernel in topology.kernels],
        "blocks": repeated(network.blocks, stages),
        "decoder_blocks": [network.decoder_blocks] * (stages - 1),
    }


def repeated(numbers: Sequence[int], count: int) -> list[JsonValue]:
    """Return `count` numbers, the last one repeated."""
    return [numbers[min(index, len(numbers) - 1)] for index in range(count)]


def tokens(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return what a transformer takes whose tokens are blocks of voxels: their size, their grid, channels."""
    patch, grid = _token(topology), _grid(topology)
    return {"patch": patch, "grid": grid, "features": network.features}


def unetr(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return the arguments of a UNETR: ViT-B as published, unless the preset's arguments say otherwise."""
    return tokens(network, topology) | {"hidden": 768, "depth": 12, "heads": 12}


def primus(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return the arguments of a Primus: size M as published, unless the preset's arguments say otherwise."""
    return tokens(network, topology) | {"width": 864, "depth": 16, "heads": 12}


def vit_2d(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return the arguments of the 2D ViT: it works on slices of the patch's own size."""
    return {"resize_shape": list(topology.patch), "patch": _token(topology), "width": 512, "depth": 8, "heads": 8}


def swin_unetr(network: NetworkPreset, topology: Topology) -> Arguments:
    """Return the arguments of a SwinUNETR: the first halving makes the tokens, the others merge them."""
    first, *mergings = topology.strides[1:]
    return {
        "features": network.features,
        "patch": list(first),
        "mergings": [list(stride) for stride in mergings],
        "depths": repeated((2,), len(mergings)),
        "heads": [3 * 2**stage for stage in range(len(mergings))],
        "window": [7] * len(first),
    }


def _token(topology: Topology) -> list[JsonValue]:
    return list(topology.divisor)


def _grid(topology: Topology) -> list[JsonValue]:
    return [size // unit for size, unit in zip(topology.patch, topology.divisor, strict=True)]


_U_NET = Family(convolutions, convolutional=True)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "unet": _U_NET,
        "residual_unet": _U_NET,
        "attention_unet": _U_NET,
        "segresnet": Family(convolutions, max_stages=5),
        "resunet_pp": Family(convolutions, max_stages=5),
        "deeplab_v3plus": Family(convolutions, max_stages=5),
        # Roy et al. 2023 and Isensee et al. 2024: a quarter of the U-Net's operations in seven times its time.
        "mednext": Family(convolutions, max_stages=5, speed=0.04, cpu_speed=0.14),
        "text_guided_unet": Family(convolutions),
        "unetr": Family(unetr, halvings=4, attention=True),
        "swin_unetr": Family(swin_unetr, halvings=5, speed=0.5, cpu_speed=0.5),
        "primus": Family(primus, halvings=3, attention=True),
        "vit_2d": Family(vit_2d, halvings=4, attention=True),
    }
)


def family(kind: str) -> Family:
    """Return how networks of a kind are shaped.

    Raises:
        UsageError: No rule shapes this kind.
    """
    if kind in FAMILIES:
        return FAMILIES[kind]
    # A package that adds a network (`catalog.GROUP`) says here how it is shaped; without a word, as a U-Net is.
    shapes = {item.name: item for item in entry_points(group=SHAPES)}
    if kind in shapes:
        found = shapes[kind].load()
        if isinstance(found, Family):
            return found
    elif kind in {item.name for item in entry_points(group="autoseg.networks")}:
        return Family(convolutions)
    raise _no_rule(kind, None)


def check_kind(kind: str, *, file: str) -> None:
    """Raise unless a rule shapes networks of this kind, without loading a package that adds it.

    Raises:
        UsageError: None does; the file and the nearest kind are named.
    """
    if kind not in _kinds():
        raise _no_rule(kind, file)


def _kinds() -> tuple[str, ...]:
    added = (item.name for group in (SHAPES, "autoseg.networks") for item in entry_points(group=group))
    return (*FAMILIES, *added)


def _no_rule(kind: str, file: str | None) -> UsageError:
    fix = nearest(kind, set(_kinds()))
    return UsageError(f"no rule shapes a network of kind {kind!r}", file=file, fix=fix, code="unknown_network")


def rule_of_shape(network: NetworkPreset, spacing_mm: Numbers) -> Rule:
    """Return how a size becomes a patch and the topology for it.

    Args:
        network: The preset's.
        spacing_mm: 2 or 3 numbers.

    Raises:
        UsageError: No rule shapes this kind.
    """
    chosen = family(network.kind)
    if chosen.halvings:
        # Two of the coarsest voxels along each axis: a norm over a single one leaves nothing.
        return partial(pyramid, spacing_mm, halvings=chosen.halvings, least=2)
    return partial(design, spacing_mm, max_stages=network.max_stages or chosen.max_stages)


def architecture(
    network: NetworkPreset, recipe: Recipe, topology: Topology, *, labels: Labels, channels: int, cascade: bool = False
) -> Architecture:
    """Return the network of `topology`.

    Args:
        network: The preset's.
        recipe: Decides about deep supervision.
        topology: Strides and kernels, 2 or 3 numbers each.
        labels: What the network puts out.
        channels: Of the image.
        cascade: Whether one more input channel a structure carries the previous stage's prediction.

    Raises:
        UsageError: The rules of shape do not know this kind of network.
    """
    shaped = family(network.kind).arguments(network, topology)
    return Architecture(
        kind=network.kind,
        dimensions=2 if len(topology.patch) == 2 else 3,
        input_channels=channels + (len(labels.structures) if cascade else 0),
        output_channels=labels.output_channels,
        deep_supervision=recipe.deep_supervision and len(topology.strides) > 2,
        arguments=shaped | network.arguments,
    )


_REASONS = {
    "features": "of the first stage by preset, doubled from stage to stage up to its bound",
    "kernels": "3 along an axis once its spacing is less than twice the finest, 1 before",
}


def explained(built: Architecture, topology: Topology) -> dict[str, str]:
    """Return which arguments of a network follow from the data or are worth a sentence, and why they are so.

    Args:
        built: The network.
        topology: What it was shaped by.
    """
    divisor = words(topology.divisor)
    strides = (
        "each axis is halved while its feature map has 8 voxels or more and its spacing is less than twice the"
        f" finest; the patch is a multiple of {divisor}"
    )
    if family(built.kind).halvings:
        strides = (
            f"this kind halves the finest axis {family(built.kind).halvings} times and coarser ones less, by the power"
            f" of two nearest to their spacing; the patch is a multiple of {divisor}"
        )
    reasons = {"strides": strides, **_REASONS}
    return {key: reasons[key] for key in ("strides", "kernels", "features") if key in built.arguments}
