from __future__ import annotations

import pytest
import torch
from torch import nn

from autoseg.networks import catalog
from autoseg.networks.deeplab import DilatedBlock, Pyramid, Step
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic, small

NARROW = {"width": 8, "low_level_width": 4}


@pytest.mark.parametrize("shape", [(5, 9, 7), (6, 13, 8), (11, 5, 5)])
def test_an_image_of_any_size_passes(shape: tuple[int, int, int]) -> None:
    architecture = anisotropic("deeplab_v3plus", more=NARROW)
    assert catalog.divisor(architecture) == (1, 1, 1)
    assert catalog.min_shape(architecture) == (3, 5, 5)
    network = catalog.build(architecture).eval()
    with torch.no_grad():
        assert tuple(network(torch.rand(1, 1, *shape)).shape) == (1, 3, *shape)


def test_past_the_output_stride_an_axis_is_dilated_instead() -> None:
    architecture = small("deeplab_v3plus", 2, stages=5, more=NARROW | {"output_stride": 4})
    network = catalog.build(architecture)
    first = [stage[0].conv1 for stage in network.encoder]
    assert [layer.stride[0] for layer in first] == [1, 2, 2, 1, 1]
    assert [layer.dilation[0] for layer in first] == [1, 1, 1, 2, 4]
    assert catalog.min_shape(architecture) == (1, 5, 5)


def test_the_output_stride_holds_axis_by_axis() -> None:
    network = catalog.build(anisotropic("deeplab_v3plus", more=NARROW | {"output_stride": 2}))
    first = [stage[0].conv1 for stage in network.encoder]
    assert [tuple(layer.stride) for layer in first] == [(1, 1, 1), (1, 2, 2), (2, 1, 1)]
    assert [tuple(layer.dilation) for layer in first] == [(1, 1, 1), (1, 1, 1), (1, 2, 2)]


def test_the_decoder_takes_in_a_quarter_of_the_resolution() -> None:
    def taken(**more: int) -> int:
        return catalog.build(small("deeplab_v3plus", 2, stages=5, more=NARROW | more)).low_level  # type: ignore

    assert taken() == 2
    # Where no stage is so coarse, the last but one.
    assert taken(output_stride=2) == 3
    assert catalog.build(small("deeplab_v3plus", 2, stages=2, more=NARROW)).low_level == 0


def test_the_last_of_decoder_blocks_counts() -> None:
    network = catalog.build(anisotropic("deeplab_v3plus", more=NARROW))  # decoder_blocks 1, 2
    assert len(network.decoder.blocks) == 2


def test_of_32_features_the_widths_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = catalog.build(small("deeplab_v3plus", 2, stages=5, features=32))
    assert network.decoder.head.in_channels == 256
    assert network.decoder.low_level[0].out_channels == 48


def test_a_block_starts_as_its_shortcut() -> None:
    network = catalog.build(small("deeplab_v3plus", 2, more=NARROW))
    block = network.encoder[1][1]
    assert isinstance(block, DilatedBlock)
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_a_shortcut_has_weights_only_where_it_must() -> None:
    assert isinstance(DilatedBlock(2, 2, kernel=(3, 3), step=Step((1, 1), (2, 2))).shortcut, nn.Identity)
    assert not isinstance(DilatedBlock(2, 2, kernel=(3, 3), step=Step((1, 2), (1, 1))).shortcut, nn.Identity)


def test_the_pyramid_sees_the_mean_of_the_whole_image() -> None:
    pyramid = Pyramid(1, 1, kernel=(3, 3), rates=(2,))
    for layer in (*pyramid.branches, pyramid.mix):
        layer[1] = nn.Identity()
    for item in pyramid.parameters():
        nn.init.zeros_(item)
    nn.init.ones_(pyramid.whole.weight)
    with torch.no_grad():
        pyramid.mix[0].weight[:, -1] = 1.0
    x = torch.zeros(1, 1, 2, 4)
    x[..., 0] = 8.0
    assert (pyramid(x) == 2.0).all()


def test_in_training_its_list_has_one_output() -> None:
    network = catalog.build(small("deeplab_v3plus", 2, more=NARROW))
    assert [tuple(item.shape) for item in network(torch.rand(2, 1, 9, 9))] == [(2, 3, 9, 9)]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"output_stride": 0}, "argument 'output_stride' is 0, not a whole number of 1 or more."),
        ({"rates": 6}, "argument 'rates' is 6, not a list of whole numbers of 1 or more."),
        ({"low_level": 3}, "argument 'low_level' is unknown. Did you mean 'low_level_width'?"),
    ],
)
def test_a_wrong_argument_is_named(more: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(small("deeplab_v3plus", more=more))
    assert str(error.value) == f"network deeplab_v3plus: {sentence}"
