"""The presets of the convolutional networks describe networks that the catalog builds, in 2D and in 3D."""

from __future__ import annotations

import pytest
import torch

from autoseg.networks import catalog
from autoseg.records.configuration import Architecture
from autoseg.records.preset import Preset
from autoseg.stages.planning import load_preset

NAMES = ("segresnet", "mednext", "resunet_pp", "deeplab_v3plus")


def architecture(preset: Preset, dimensions: int, features: int) -> Architecture:
    """As many stages as the preset allows, every axis halved between them."""
    network, stages = preset.network, preset.network.max_stages
    most = network.max_features_2d if dimensions == 2 else network.max_features_3d
    ones, twos, threes = ([number] * dimensions for number in (1, 2, 3))
    staged = {
        "features": [min(most, features * 2**stage) for stage in range(stages)],
        "strides": [ones] + [twos] * (stages - 1),
        "kernels": [threes] * stages,
        "blocks": [network.blocks[min(stage, len(network.blocks) - 1)] for stage in range(stages)],
        "decoder_blocks": [network.decoder_blocks] * (stages - 1),
    }
    return Architecture(
        kind=network.kind,
        dimensions=dimensions,
        input_channels=1,
        output_channels=3,
        deep_supervision=preset.recipe.deep_supervision,
        arguments=staged | network.arguments,
    )


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_describes_a_network(name: str, dimensions: int) -> None:
    preset = load_preset(name)
    described = architecture(preset, dimensions, preset.network.features)
    with torch.device("meta"):
        network = catalog.build(described)
        outputs = network(torch.zeros(1, 1, *catalog.min_shape(described)[-dimensions:]))
    assert len(outputs if isinstance(outputs, list) else [outputs]) == (4 if preset.recipe.deep_supervision else 1)


@pytest.mark.parametrize(
    ("name", "dimensions", "millions"),
    [
        ("mednext", 3, 5.6),  # Roy et al. 2023, table 1
        ("resunet_pp", 2, 4.07),  # the authors' code, for three colours
    ],
)
def test_the_preset_has_the_published_number_of_parameters(name: str, dimensions: int, millions: float) -> None:
    preset = load_preset(name)
    with torch.device("meta"):
        network = catalog.build(architecture(preset, dimensions, preset.network.features))
    assert sum(item.numel() for item in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_of_a_short_budget_is_smaller(name: str) -> None:
    preset = load_preset(name)
    assert preset.short is not None
    with torch.device("meta"):
        wide, narrow = (
            catalog.build(architecture(preset, 3, features))
            for features in (preset.network.features, preset.short.features)
        )
    sizes = [sum(item.numel() for item in network.parameters()) for network in (wide, narrow)]
    assert sizes[1] < 0.6 * sizes[0]


def test_the_recipes_are_the_published_ones() -> None:
    found = {name: load_preset(name).recipe for name in NAMES}
    assert {name: (item.optimizer, item.learning_rate) for name, item in found.items()} == {
        "segresnet": ("adamw", 2e-4),
        "mednext": ("adamw", 1e-3),
        "resunet_pp": ("adam", 1e-4),
        "deeplab_v3plus": ("sgd", 7e-3),
    }
