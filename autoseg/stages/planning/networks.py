"""From a preset and a topology to a network described to the last number."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.plan import Architecture, NetworkPreset, Recipe
from autoseg.stages.planning.topology import Topology

SHAPED = ("unet", "residual_unet", "attention_unet")


def architecture(
    network: NetworkPreset, recipe: Recipe, topology: Topology, *, labels: Labels, channels: int, cascade: bool = False
) -> Architecture:
    """Return the network of `topology` with features that double from stage to stage.

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
    if network.kind not in SHAPED:
        raise UsageError(
            f"no rule shapes a network of kind {network.kind!r}", fix=f"Kinds with a rule: {', '.join(SHAPED)}."
        )
    stages = len(topology.strides)
    flat = len(topology.patch) == 2
    most = network.max_features_2d if flat else network.max_features_3d
    arguments: dict[str, JsonValue] = {
        "features": [min(most, network.features * 2**stage) for stage in range(stages)],
        "strides": [list(stride) for stride in topology.strides],
        "kernels": [list(kernel) for kernel in topology.kernels],
        "blocks": _repeated(network.blocks, stages),
        "decoder_blocks": [network.decoder_blocks] * (stages - 1),
    }
    return Architecture(
        kind=network.kind,
        dimensions=2 if flat else 3,
        input_channels=channels + (len(labels.structures) if cascade else 0),
        output_channels=labels.output_channels,
        deep_supervision=recipe.deep_supervision and stages > 2,
        arguments=arguments | network.arguments,
    )


def _repeated(numbers: Sequence[int], count: int) -> list[JsonValue]:
    return [numbers[min(index, len(numbers) - 1)] for index in range(count)]
