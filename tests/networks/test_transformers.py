"""What attention, positions and windows compute, and what the networks of tokens are in particular."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from autoseg.networks import catalog, memory, transformer
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from autoseg.records.preset import Recipe
from tests.networks.architectures import SMALLEST

TOKEN_KINDS = ("unetr", "swin_unetr", "primus", "vit_2d")


def member(kind: str, dimensions: int = 3, **arguments: object) -> Architecture:
    found = SMALLEST[kind][dimensions - 2]
    assert found is not None
    return found.model_copy(update={"arguments": found.arguments | arguments})


def published(kind: str, **arguments: object) -> Architecture:
    return Architecture(kind=kind, dimensions=3, input_channels=1, output_channels=14, arguments=arguments)


def parameters(architecture: Architecture) -> int:
    with torch.device("meta"):
        return sum(item.numel() for item in catalog.build(architecture).parameters())


def test_attention_is_a_softmax_of_products() -> None:
    torch.manual_seed(0)
    layer = transformer.Attention(8, 2)
    x, bias = torch.randn(3, 5, 8), torch.randn(1, 2, 5, 5)
    query, key, value = (
        part.reshape(3, 5, 2, 4).transpose(1, 2) for part in F.linear(x, layer.qkv.weight, layer.qkv.bias).chunk(3, -1)
    )
    weights = torch.softmax(query @ key.transpose(2, 3) / 2 + bias, -1)
    expected = layer.out((weights @ value).transpose(1, 2).reshape(3, 5, 8))
    torch.testing.assert_close(layer(x, bias=bias), expected)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 5)])
def test_turned_queries_and_keys_see_distances_only(grid: tuple[int, ...]) -> None:
    """The same two vectors, a fixed step apart, give the same product wherever they lie."""
    torch.manual_seed(0)
    pairs = 7
    query, key = torch.randn(2 * pairs), torch.randn(2 * pairs)
    angles = transformer.rotary_angles(grid, pairs)
    turned = [transformer.rotate(one.expand(1, 1, len(angles), -1), angles)[0, 0] for one in (query, key)]
    turned = [one.reshape(*grid, -1) for one in turned]
    step = (0, 2, 1)[: len(grid)]
    start = [torch.tensor(place) for place in ((0,) * len(grid), (2,) + (1,) * (len(grid) - 1), (1,) * len(grid))]
    products = [float(turned[0][tuple(place)] @ turned[1][tuple(place + torch.tensor(step))]) for place in start]
    assert products[1:] == pytest.approx([products[0]] * 2, abs=1e-4)
    assert float(turned[0][tuple(start[0])] @ turned[1][tuple(start[0])]) != pytest.approx(products[0], abs=1e-2)


def test_rotation_keeps_lengths_and_the_first_token() -> None:
    x = torch.randn(2, 3, 6, 8)
    turned = transformer.rotate(x, transformer.rotary_angles((2, 3), 4))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], x[:, :, 1])


def test_each_axis_turns_channels_of_its_own() -> None:
    angles = transformer.rotary_angles((2, 2, 2), 7).reshape(2, 2, 2, 7)
    assert (angles[1, 0, 0] != 0).tolist() == [True, True, False, False, False, False, False]
    assert (angles[0, 1, 0] != 0).tolist() == [False, False, True, True, False, False, False]
    assert (angles[0, 0, 1] != 0).tolist() == [False, False, False, False, True, True, False]


def test_positions_of_another_grid_are_interpolated() -> None:
    positions = transformer.Positions(1, (2, 2))
    with torch.no_grad():
        positions.vectors.copy_(torch.tensor([[0.0, 4.0], [0.0, 4.0]]))
    x = torch.zeros(1, 1, 2, 2)
    assert torch.equal(positions(x), positions.vectors)
    assert positions(torch.zeros(1, 1, 1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_a_block_with_a_layer_scale_of_zero_is_the_identity() -> None:
    block = transformer.Block(8, transformer.Attention(8, 2, normed=True), mlp=transformer.SwiGlu(8, 12), scale=0.0)
    x = torch.randn(2, 4, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        ((16, 16), ((2, 2), (2, 2), (2, 2), (2, 2))),
        ((2, 8, 8), ((1, 2, 2), (1, 2, 2), (2, 2, 2))),
        ((1, 4, 4), ((1, 2, 2), (1, 2, 2))),
    ],
)
def test_coarse_axes_are_halved_last(patch: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> None:
    assert transformer.halvings(patch) == strides


@pytest.mark.parametrize("kind", TOKEN_KINDS[:3])
def test_one_output_in_a_list_where_training_expects_one(kind: str) -> None:
    network = catalog.build(member(kind))
    x = torch.rand(1, 1, *catalog.min_shape(member(kind)))
    outputs = network(x)
    assert isinstance(outputs, list)
    assert [item.shape[2:] for item in outputs] == [x.shape[2:]]
    assert torch.equal(network.eval()(x), outputs[0])


@pytest.mark.parametrize("kind", ["unetr", "primus", "vit_2d"])
def test_a_voxel_far_away_is_seen(kind: str) -> None:
    """Attention reaches across the patch, further than the decoder's convolutions."""
    dimensions = 2 if kind == "vit_2d" else 3
    torch.manual_seed(0)
    network = catalog.build(member(kind, dimensions))
    for item in network.parameters():
        torch.nn.init.normal_(item, std=0.2)
    size = (32,) * dimensions
    x = torch.rand(1, 1, *size, requires_grad=True)
    network.eval()(x)[(0, 1, *(0,) * dimensions)].backward()
    assert x.grad is not None
    assert float(x.grad[(0, 0, *(-4,) * dimensions)].abs()) > 0


def test_the_divisors_follow_from_tokens_and_mergings() -> None:
    assert catalog.divisor(member("unetr")) == (2, 4, 4)
    assert catalog.divisor(member("primus", 2)) == (1, 4, 4)
    assert catalog.divisor(member("swin_unetr")) == (2, 8, 8)
    assert catalog.min_shape(member("swin_unetr")) == (4, 16, 16)
    assert catalog.divisor(member("vit_2d", 2)) == (1, 1, 1)


def test_unetr_has_its_published_number_of_parameters() -> None:
    # Hatamizadeh et al. 2022: 92.58 million, for 14 classes at 96^3.
    full = dict(patch=[16] * 3, grid=[6] * 3, hidden=768, depth=12, heads=12, features=16)
    assert parameters(published("unetr", **full)) == pytest.approx(92.58e6, rel=0.01)


def test_swin_unetr_has_its_published_number_of_parameters() -> None:
    # Hatamizadeh et al. 2022: 61.98 million, features 48, for 14 classes.
    full = dict(
        features=48, patch=[2] * 3, mergings=[[2] * 3] * 4, depths=[2] * 4, heads=[3, 6, 12, 24], window=[7] * 3
    )
    assert parameters(published("swin_unetr", **full)) == pytest.approx(61.98e6, rel=0.01)


def test_primus_has_the_parameters_of_the_authors_network() -> None:
    """Primus-M of dynamic-network-architectures for patches of 160^3, but for the tokeniser and the keys' shift."""
    full = dict(patch=[8] * 3, grid=[20] * 3, width=864, depth=16, heads=12, features=32)
    with torch.device("meta"):
        network = catalog.build(published("primus", **full))
    count = sum(item.numel() for name, item in network.named_parameters() if not name.startswith("tokeniser"))
    theirs, tokeniser = 153_080_038, 864 * 8**3 + 864
    assert count == theirs - tokeniser + 16 * 864


def test_slices_of_any_size_give_logits_of_that_size() -> None:
    network = catalog.build(member("vit_2d", 2)).eval()
    for size in ((16, 24), (7, 40), (33, 5)):
        assert tuple(network(torch.rand(2, 1, *size)).shape) == (2, 3, *size)


def test_a_slice_transformer_in_3d_is_refused() -> None:
    architecture = member("vit_2d", 2).model_copy(update={"dimensions": 3})
    for function in (catalog.build, catalog.divisor, catalog.min_shape):
        with pytest.raises(UsageError) as error:
            function(architecture)
        assert str(error.value) == (
            "network vit_2d works on slices, not in 3D. "
            'Use a 2D configuration (dimensions = ["2d"]), or the presets primus or unetr in 3D.'
        )


@pytest.mark.parametrize("kind", ["unetr", "primus"])
def test_attention_costs_are_quadratic_in_tokens(kind: str) -> None:
    flops = [memory.measure_window(member(kind), (2, 4, 4 * count), 1).flops for count in (2, 4, 8)]
    assert flops[2] - flops[1] > 2.0 * (flops[1] - flops[0])
    held = [memory.measure_step(member(kind), Recipe(), (4, 8, 8 * count), 1).peak_bytes for count in (1, 2)]
    assert held[1] > held[0]


@pytest.mark.parametrize(
    ("kind", "key", "value", "sentence"),
    [
        ("unetr", "patch", [3, 4, 4], "argument 'patch' is [3, 4, 4], not powers of two of which one is 2 or more."),
        ("primus", "patch", [1, 1, 1], "argument 'patch' is [1, 1, 1], not powers of two of which one is 2 or more."),
        ("unetr", "patch", [4, 4], "argument 'patch' is [4, 4], not [z, y, x] whole numbers of 1 or more."),
        ("unetr", "heads", 5, "argument 'heads' is 5, which does not divide 12 channels."),
        ("unetr", "hidden", "wide", "argument 'hidden' is 'wide', not a whole number of 1 or more."),
        ("unetr", "depth", 1, "but a patch of [2, 4, 4] takes skips from 2 layers or more."),
        ("unetr", "feature", 3, "argument 'feature' is unknown. Did you mean 'features'?"),
        ("primus", "heads", 28, "1 channels a head, but positions turn pairs of them, one or more an axis."),
        ("swin_unetr", "mergings", [[1, 2, 2], [1, 1, 1]], "has the entry [1, 1, 1], which joins no tokens."),
        ("swin_unetr", "heads", [1, 3], "argument 'heads' is 3, which does not divide 8 channels."),
        ("swin_unetr", "depths", [2], "argument 'mergings' has 2 entries, not 1."),
        ("vit_2d", "resize_shape", [17, 24], "is [17, 24], not a multiple of the token's patch [4, 4]."),
    ],
)
def test_a_wrong_argument_is_named(kind: str, key: str, value: object, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(member(kind, 2 if kind == "vit_2d" else 3, **{key: value}))
    assert str(error.value).startswith(f"network {kind}: ")
    assert str(error.value).endswith(sentence)


def test_a_missing_argument_is_named() -> None:
    architecture = member("primus")
    cut = {key: value for key, value in architecture.arguments.items() if key != "grid"}
    with pytest.raises(UsageError, match=r"'grid' is missing\. It takes patch, grid, width, depth, heads, features\."):
        catalog.build(architecture.model_copy(update={"arguments": cut}))


def test_half_precision_comes_close() -> None:
    torch.manual_seed(0)
    for kind in TOKEN_KINDS[:3]:
        network = catalog.build(member(kind)).eval()
        x = torch.rand(1, 1, *catalog.min_shape(member(kind)))
        with torch.no_grad():
            exact = network(x)
            with torch.autocast("cpu", torch.bfloat16):
                rounded = network(x)
        assert rounded.isfinite().all()
        assert float((rounded.float() - exact).abs().mean()) < 0.1 * float(exact.abs().mean()) + 0.02
        assert math.isfinite(float(exact.sum()))
