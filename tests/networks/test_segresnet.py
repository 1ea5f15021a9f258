from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoseg.networks import catalog
from autoseg.networks.segresnet import AddedUp, PreactivatedBlock
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic, small
from tests.networks.peers import in_order, monai_outputs

PUBLISHED = {"norm": "group", "groups": 8}


def test_a_block_whose_last_weights_are_zero_is_the_identity() -> None:
    block = PreactivatedBlock(2, 4, kernel=(3, 3), norm=lambda channels: nn.ReLU())
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_a_decoder_stage_adds_the_interpolated_features_to_the_skip() -> None:
    stage = AddedUp(nn.Identity(), nn.Identity(), nn.Identity())
    below, skip = torch.tensor([[[[0.0, 4.0]]]]), torch.full((1, 1, 1, 4), 10.0)
    torch.testing.assert_close(stage(below, skip), torch.tensor([[[[10.0, 11.0, 13.0, 14.0]]]]))


def test_transposed_convolutions_may_bring_features_up() -> None:
    network = catalog.build(anisotropic("segresnet", more={"upsampling": "transposed"}))
    assert [tuple(stage.up.stride) for stage in network.decoder] == [(2, 2, 2), (1, 2, 2)]
    outputs = network(torch.rand(1, 1, 4, 8, 16))
    assert [tuple(item.shape[2:]) for item in outputs] == [(4, 8, 16), (4, 4, 8)]


def test_instance_norm_unless_the_group_norm_is_asked_for() -> None:
    def groups(**more: object) -> set[int]:
        network = catalog.build(small("segresnet", 2, features=8, more=more))  # type: ignore[arg-type]
        return {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}

    assert groups() == set()
    assert groups(norm="group") == {8}
    assert groups(norm="group", groups=4) == {4}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"norm": "batch"}, "argument 'norm' is 'batch'. Use one of instance, group."),
        ({"norm": "group", "groups": 3}, "argument 'groups' is 3, but 4 features are no multiple of it."),
        ({"groups": 0}, "argument 'groups' is 0, not a whole number of 1 or more."),
        ({"upsampling": ["linear"]}, "argument 'upsampling' is ['linear']. Use one of linear, transposed."),
        ({"group": 8}, "argument 'group' is unknown. Did you mean 'groups'?"),
    ],
)
def test_a_wrong_argument_is_named(more: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(small("segresnet", more=more))
    assert str(error.value) == f"network segresnet: {sentence}"


def test_the_published_network_has_its_number_of_parameters() -> None:
    # Myronenko 2018 without the auto-encoder; MONAI's SegResNet of 32 filters has the same.
    arguments = small("segresnet", stages=4, features=32, more=PUBLISHED).arguments
    changes = {"blocks": [1, 2, 2, 4], "decoder_blocks": [1, 1, 1]}
    architecture = small("segresnet", input_channels=4, arguments=arguments | changes)
    with torch.device("meta"):
        network = catalog.build(architecture.model_copy(update={"deep_supervision": False}))
    assert sum(item.numel() for item in network.parameters()) == 18_798_627


@pytest.mark.peer
@pytest.mark.parametrize("dimensions", [2, 3])
def test_same_weights_give_the_output_of_monai(dimensions: int, tmp_path: Path) -> None:
    # Linear upsampling only: MONAI's transposed convolutions have kernels of 3, ours those of the U-Net.
    architecture = small("segresnet", dimensions, features=8, input_channels=2, deep_supervision=False, more=PUBLISHED)
    torch.manual_seed(1)
    network = catalog.build(architecture).eval()
    for item in network.parameters():
        nn.init.normal_(item, std=0.1)
    x = torch.rand(2, 2, *[16] * dimensions)
    parameters = in_order(
        network.stem,
        network.encoder,
        *(stage.blocks for stage in network.decoder),
        *(stage.narrow for stage in network.decoder),
        network.heads[0],
    )
    arguments = {
        "spatial_dims": dimensions,
        "init_filters": 8,
        "in_channels": 2,
        "out_channels": 3,
        "norm": ["GROUP", {"num_groups": 8}],
        "blocks_down": [2, 2, 2],
        "blocks_up": [2, 2],
    }
    found = monai_outputs("segresnet", arguments, parameters, x=x, folder=tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(found[0], network(x), atol=1e-4, rtol=1e-4)
