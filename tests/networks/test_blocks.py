from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from autoseg.networks import blocks


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slope", [1.0, 0.01])
def test_instance_norm_is_torchs(layout: torch.memory_format, kind: torch.dtype, slope: float) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 3, 4, 5, 6) + 1).to(kind).contiguous(memory_format=layout)
    weight, bias = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, -1.0, 1.0])
    expected = F.instance_norm(x.float(), weight=weight, bias=bias, eps=blocks.EPSILON)
    expected = expected if slope == 1 else F.leaky_relu(expected, slope)
    tolerance = 1e-5 if kind == torch.float32 else 4e-2
    for function in (blocks.instance_norm, blocks.instance_norm_by_batch):
        found = function(x, weight, bias, slope=slope)
        assert found.dtype == kind
        torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_norm_kernels_have_the_same_gradients(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    gradients = []
    for function in (blocks.instance_norm, blocks.instance_norm_by_batch):
        inputs = [
            x.clone(memory_format=layout).requires_grad_(),
            torch.full((3,), 1.5, requires_grad=True),
            torch.ones(3, requires_grad=True),
        ]
        function(*inputs, slope=0.01).backward(upstream)
        gradients.append([item.grad for item in inputs])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 3, 4, 4), torch.channels_last),
        ((1, 3, 4, 4), torch.channels_last),
        ((2, 3, 2, 4, 4), torch.channels_last_3d),
    ],
)
def test_the_norm_keeps_the_channels_last(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(shape).contiguous(memory_format=layout)
    assert blocks.InstanceNorm(3, slope=0.01)(x).is_contiguous(memory_format=layout)


def test_instance_norm_of_ones_and_threes_is_minus_one_and_one() -> None:
    x = torch.tensor([1.0, 3.0, 1.0, 3.0]).view(1, 1, 2, 2)
    found = blocks.InstanceNorm(1)(x)
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-4, rtol=0)


def test_residual_block_starts_as_its_shortcut() -> None:
    block = blocks.ResidualBlock(2, 3, outputs=3, kernel=(3, 3), stride=(1, 2))
    blocks.initialise(block)
    x = torch.rand(1, 3, 4, 4)
    expected = (x[..., 0::2] + x[..., 1::2]) / 2
    torch.testing.assert_close(block(x), expected)


def test_residual_block_has_no_shortcut_weights_where_none_are_needed() -> None:
    def names(inputs: int) -> set[str]:
        block = blocks.ResidualBlock(3, inputs, outputs=4, kernel=(3, 3, 3), stride=(2, 2, 2))
        return {name for name, _ in block.named_parameters() if name.startswith("shortcut")}

    assert names(4) == set()
    assert names(2) == {"shortcut.1.weight", "shortcut.2.weight", "shortcut.2.bias"}


def test_attention_gate_hides_what_the_coarser_features_reject() -> None:
    gate = blocks.AttentionGate(2, 2, below=2, stride=(2, 2))
    with torch.no_grad():
        gate.from_skip.weight.zero_()
        gate.from_below.weight.fill_(1.0)
        gate.from_below.bias.zero_()
        gate.agreement.weight.fill_(100.0)
        gate.agreement.bias.fill_(-100.0)
        gate.mix.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        gate.mix.bias.zero_()
    gate.norm = torch.nn.Identity()
    below = torch.zeros(1, 2, 4, 4)
    below[..., :2] = 5.0
    gated = gate(torch.ones(1, 2, 8, 8), below)
    assert gated[..., :3].min() > 0.99
    assert gated[..., 5:].max() < 0.01


def test_initial_weights_have_he_variance() -> None:
    torch.manual_seed(0)
    layer = blocks.convolution(3, 16, 64, kernel=(3, 3, 3), stride=(1, 1, 1))
    blocks.initialise(layer)
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (1 + 0.01**2) / (16 * 27)) ** 0.5, rel=0.02)
    assert float(layer.bias.detach().abs().max()) == 0


def test_checkpointed_gives_the_same_gradient() -> None:
    layer = torch.nn.Conv2d(1, 2, 3)
    x = torch.rand(1, 1, 5, 5)
    layer(x).square().sum().backward()
    plain, layer.weight.grad = layer.weight.grad, None
    blocks.checkpointed(layer, x).square().sum().backward()
    assert torch.equal(plain, layer.weight.grad)


def test_dilated_taps_lie_apart_and_keep_the_grid() -> None:
    layer = blocks.dilated(2, 1, 1, kernel=(1, 3), stride=(1, 1), rate=(2, 2))
    torch.nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 2, 7)
    x[..., 0, 3] = 1.0
    assert layer(x)[0, 0].tolist() == [[0, 1, 0, 1, 0, 1, 0], [0] * 7]


def test_a_dilated_stride_rounds_up() -> None:
    layer = blocks.dilated(3, 1, 1, kernel=(3, 3, 3), stride=(1, 2, 2), rate=(1, 1, 3))
    assert tuple(layer(torch.zeros(1, 1, 4, 5, 6)).shape[2:]) == (4, 3, 3)


def test_enlarging_keeps_the_outer_edges_and_the_type() -> None:
    x = torch.tensor([[[[0.0, 4.0]]]], dtype=torch.bfloat16)
    linear, nearest = blocks.enlarge(x, (1, 4)), blocks.enlarge(x, (1, 4), mode="nearest")
    assert linear.dtype == nearest.dtype == torch.bfloat16
    assert linear.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert nearest.flatten().tolist() == [0.0, 0.0, 4.0, 4.0]
    assert blocks.enlarge(x, (1, 2)) is x
