from __future__ import annotations

import pytest
import torch
from torch import nn

from autoseg.networks import catalog
from autoseg.networks.resunet_pp import SqueezeExcitation, SummedPyramid
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic, small


def test_squeeze_and_excitation_weighs_whole_channels() -> None:
    block = SqueezeExcitation(2, reduction=2)
    with torch.no_grad():
        block.squeeze.weight.copy_(torch.tensor([[1.0, 0.0]]))  # what channel 0 is on the mean
        block.excite.weight.copy_(torch.tensor([[0.0], [100.0]]))
    x = torch.ones(2, 2, 3, 3)
    x[1, 0] = 0.0  # in the second sample there is nothing to squeeze
    found = block(x)
    assert (found[0, 0] == 0.5).all()
    assert (found[0, 1] == 1.0).all()
    assert (found[1, 1] == 0.5).all()


def test_the_pyramid_reaches_as_far_as_its_largest_rate() -> None:
    pyramid = SummedPyramid(1, 1, kernel=(1, 3), rates=(2, 4))
    for branch in pyramid.branches:
        branch[1] = nn.Identity()
        nn.init.ones_(branch[0].weight)
    nn.init.ones_(pyramid.mix.weight)
    nn.init.zeros_(pyramid.mix.bias)
    x = torch.zeros(1, 1, 3, 11)
    x[0, 0, 1, 5] = 1.0
    found = pyramid(x)[0, 0]
    # The middle tap of each of the three branches, and taps 1, 2 and 4 voxels away; never along the flat axis.
    assert found[1].tolist() == [0, 1, 0, 1, 1, 3, 1, 1, 0, 1, 0]
    assert not found[0].any()
    assert not found[2].any()


def test_the_widths_are_those_of_the_authors() -> None:
    network = catalog.build(small("resunet_pp", 2, stages=4, features=16))
    bridge = network.encoder[-1][1]
    assert bridge.mix.out_channels == 256
    assert [stage.units[0].conv2.out_channels for stage in network.decoder] == [128, 64, 32]
    assert network.decoder[-1].units[-1].mix.out_channels == 16
    assert [head.in_channels for head in network.heads] == [128, 64, 16]


def test_a_closed_gate_hides_the_coarser_features() -> None:
    network = catalog.build(anisotropic("resunet_pp")).eval()
    stage = network.decoder[0]
    nn.init.zeros_(stage.agreement[1].weight)
    nn.init.zeros_(stage.agreement[1].bias)
    skip = torch.rand(1, 8, 4, 4, 4)
    with torch.no_grad():
        one, other = (stage(torch.rand(1, 24, 2, 2, 2), skip) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"rates": [6, 0]}, "argument 'rates' is [6, 0], not a list of whole numbers of 1 or more."),
        ({"reduction": True}, "argument 'reduction' is True, not a whole number of 1 or more."),
        ({"rate": [6]}, "argument 'rate' is unknown. Did you mean 'rates'?"),
    ],
)
def test_a_wrong_argument_is_named(more: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(small("resunet_pp", more=more))
    assert str(error.value) == f"network resunet_pp: {sentence}"
