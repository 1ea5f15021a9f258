from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoseg.networks import catalog, weights
from autoseg.networks.mednext import MedNeXtBlock, upkern
from autoseg.records.configuration import Architecture
from autoseg.records.errors import DataError, UsageError
from tests.networks.architectures import anisotropic, small
from tests.networks.peers import in_order, monai_outputs


def published(size: str, kernel: int = 3) -> Architecture:
    """Five stages of 32 to 512 features, as in the paper."""
    return small("mednext", stages=5, features=32, deep_supervision=False, more={"size": size, "kernel": kernel})


def kernels(network: nn.Module) -> set[tuple[int, ...]]:
    return {tuple(module.depthwise.kernel_size) for module in network.modules() if isinstance(module, MedNeXtBlock)}


def test_a_block_whose_last_weights_are_zero_is_the_identity() -> None:
    network = catalog.build(small("mednext", 2))
    block = network.encoder[0][0]
    nn.init.zeros_(block.narrow.weight)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("size", "millions"), [("S", 5.6), ("B", 10.5), ("M", 17.6), ("L", 61.8)])
def test_the_sizes_have_their_published_numbers_of_parameters(size: str, millions: float) -> None:
    # Roy et al. 2023, table 1, kernel 3.
    with torch.device("meta"):
        network = catalog.build(published(size))
    assert sum(item.numel() for item in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_a_size_takes_the_place_of_blocks_and_expansion() -> None:
    network = catalog.build(small("mednext", stages=4, features=2, more={"size": "L", "expansion": [2]}))
    assert [len(stage) for stage in network.encoder] == [3, 1 + 4, 1 + 8, 1 + 8]
    assert [len(stage.blocks) for stage in network.decoder] == [8, 4, 3]
    assert [stage[-1].widen.out_channels // stage[-1].widen.in_channels for stage in network.encoder] == [3, 4, 8, 8]


def test_without_a_size_blocks_and_expansions_are_by_hand() -> None:
    network = catalog.build(anisotropic("mednext", more={"expansion": [2, 3]}))
    assert [len(stage) for stage in network.encoder] == [1, 1 + 2, 1 + 3]
    assert [stage[-1].widen.out_channels // stage[-1].widen.in_channels for stage in network.encoder] == [2, 3, 3]
    assert [stage.up.widen.out_channels // stage.up.widen.in_channels for stage in network.decoder] == [3, 2]


def test_kernel_five_leaves_flat_axes_flat() -> None:
    assert kernels(catalog.build(anisotropic("mednext"))) == {(1, 3, 3), (3, 3, 3)}
    assert kernels(catalog.build(anisotropic("mednext", more={"kernel": 5}))) == {(1, 5, 5), (5, 5, 5)}


def test_kernels_grow_linearly_and_everything_else_stays() -> None:
    small_kernel = catalog.build(anisotropic("mednext"))
    large = catalog.build(anisotropic("mednext", more={"kernel": 5}))
    block = small_kernel.encoder[1][1].depthwise
    with torch.no_grad():
        # A ramp along x stays a ramp between the centres of its outer taps.
        block.weight.copy_(torch.tensor([0.0, 1.0, 2.0]).expand_as(block.weight))
    weights.load_into(large, upkern(small_kernel.state_dict(), large), file="small kernels")
    ramp = large.encoder[1][1].depthwise.weight[0, 0]
    assert tuple(ramp.shape) == (5, 5, 5)
    torch.testing.assert_close(ramp[2, 2], torch.tensor([0.0, 0.4, 1.0, 1.6, 2.0]))
    flat = large.encoder[0][0].depthwise.weight
    assert tuple(flat.shape[2:]) == (1, 5, 5)
    assert torch.equal(large.encoder[1][1].widen.weight, small_kernel.encoder[1][1].widen.weight)


def test_weights_of_another_width_are_refused() -> None:
    network = catalog.build(small("mednext", 2, features=8))
    with pytest.raises(DataError, match="of another shape"):
        weights.load_into(network, upkern(catalog.build(small("mednext", 2)).state_dict(), network), file="narrow")


def test_the_first_plane_of_an_enlarged_axis_is_the_shortcuts_zeros() -> None:
    network = catalog.build(anisotropic("mednext"))
    up = network.decoder[1].up  # z stays, y and x double
    y = up(torch.rand(1, 8, 2, 4, 4))
    assert tuple(y.shape) == (1, 4, 2, 8, 8)
    assert not y[:, :, :, 0].any()
    assert not y[..., 0].any()
    assert y[:, :, 0, 1:, 1:].any()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"size": "XL"}, "argument 'size' is 'XL'. Use one of S, B, M, L."),
        ({"kernel": 4}, "argument 'kernel' is 4, but a kernel's size is odd."),
        ({"kernel": "5"}, "argument 'kernel' is '5', not a whole number of 1 or more."),
        ({"expansion": 2}, "argument 'expansion' is 2, not a list of whole numbers of 1 or more."),
        ({"expansions": [2]}, "argument 'expansions' is unknown. Did you mean 'expansion'?"),
    ],
)
def test_a_wrong_argument_is_named(more: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(small("mednext", more=more))
    assert str(error.value) == f"network mednext: {sentence}"


@pytest.mark.peer
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_weights_give_the_output_of_monai(dimensions: int, kernel: int, tmp_path: Path) -> None:
    # One expansion for all: MONAI widens its down blocks by the stage above, the authors (and we) by the one below.
    more = {"kernel": kernel, "expansion": [3]}
    network = catalog.build(small("mednext", dimensions, features=4, deep_supervision=False, more=more)).eval()
    torch.manual_seed(1)
    for item in network.parameters():
        nn.init.normal_(item, std=0.1)
    x = torch.rand(2, 1, *[16] * dimensions)
    first, *later = network.encoder
    parameters = in_order(
        network.stem,
        first,
        *(stage[1:] for stage in later[:-1]),
        *(stage[0] for stage in later),  # MONAI keeps what goes down apart from the stages
        later[-1][1:],
        *(stage.up for stage in network.decoder),
        *(stage.blocks for stage in network.decoder),
    )
    # Its head is a transposed convolution of one voxel: the same with its channels swapped.
    parameters += [network.heads[0].weight.transpose(0, 1), network.heads[0].bias]
    arguments = {
        "spatial_dims": dimensions,
        "init_filters": 4,
        "in_channels": 1,
        "out_channels": 3,
        "encoder_expansion_ratio": 3,
        "decoder_expansion_ratio": 3,
        "bottleneck_expansion_ratio": 3,
        "kernel_size": kernel,
        "use_residual_connection": True,
        "blocks_down": [2, 2],
        "blocks_bottleneck": 2,
        "blocks_up": [2, 2],
    }
    found = monai_outputs("mednext", arguments, parameters, x=x, folder=tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(found[0], network(x), atol=1e-4, rtol=1e-4)
