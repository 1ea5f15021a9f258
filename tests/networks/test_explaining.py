"""Attention is rolled back to where it was, and gradients fall on what a logit hangs on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoseg.networks import catalog, explaining
from autoseg.networks.explaining import Target
from autoseg.networks.transformer import Attention
from tests.networks.architectures import SMALLEST

ALL = Target("all", (1,))


def network(kind: str, dimensions: int = 3) -> nn.Module:
    torch.manual_seed(0)
    architecture = SMALLEST[kind][dimensions - 2]
    assert architecture is not None
    return catalog.build(architecture).eval()


def patch_for(kind: str, dimensions: int = 3) -> Tensor:
    architecture = SMALLEST[kind][dimensions - 2]
    assert architecture is not None
    grid = architecture.arguments.get("grid", [2, 2, 2])
    size = [number * step for number, step in zip(grid, architecture.arguments["patch"], strict=False)]
    return torch.randn(1, architecture.input_channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "dimensions"), [("unetr", 3), ("unetr", 2), ("primus", 3), ("vit_2d", 2)])
def test_what_is_looked_at_adds_up_to_what_is_drawn(kind: str, dimensions: int) -> None:
    made, patch = network(kind, dimensions), patch_for(kind, dimensions)
    assert explaining.sees_everything(made)
    weight = torch.ones(patch.shape[2:])
    everything = Target("all", (0, 1, 2))
    field, mass = explaining.rollout(made, patch, [everything, ALL], weight)
    assert field.shape == (2, *patch.shape[2:])
    assert (field >= 0).all()
    assert mass[0] == weight.sum()
    torch.testing.assert_close(field.flatten(1).sum(1), mass)


@pytest.mark.parametrize("angles", [False, True])
def test_the_shares_are_those_of_the_attention_itself(angles: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2)
    tokens = torch.randn(1, 5, 8)
    turned = torch.randn(5, 2) if angles else None
    shares = attention.shares(tokens, angles=turned)
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 2, 5))
    value = attention.qkv(tokens).reshape(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)[2]
    mixed = attention.out((shares @ value).transpose(1, 2).reshape(1, 5, 8))
    torch.testing.assert_close(mixed, attention(tokens, angles=turned))


def test_one_layer_that_looks_at_one_token_is_rolled_back_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, patch = network("unetr"), patch_for("unetr")
    half = [size // 2 for size in patch.shape[2:]]

    def to_the_last(self: Attention, x: Tensor, *, angles: Tensor | None = None) -> Tensor:
        shares = torch.zeros(1, self.heads, x.shape[1], x.shape[1])
        shares[..., -1] = 1
        return shares

    monkeypatch.setattr(Attention, "shares", to_the_last)
    monkeypatch.setattr(Target, "drawn", lambda self, logits: first_part(logits, half))
    (field,), _ = explaining.rollout(made, patch, [ALL], torch.ones(patch.shape[2:]))
    # Three layers: an eighth stays where it was, seven eighths go to the last token.
    z, y, x = half
    assert field[z:, y:, x:].sum() > 2 * field[:z, :y, :x].sum() > 0


def first_part(logits: Tensor, half: list[int]) -> Tensor:
    drawn = torch.zeros(logits.shape[1:], dtype=torch.bool)
    drawn[tuple(slice(0, size) for size in half)] = True
    return drawn


def test_windows_and_convolutions_have_no_attention_to_roll_out() -> None:
    for kind in ("unet", "swin_unetr", "mednext"):
        assert not explaining.sees_everything(network(kind))


class Line(nn.Module):
    """Background 0; the structure's logit is 3 x the first channel's left neighbour, and never the second channel."""

    def forward(self, x: Tensor) -> Tensor:
        left = torch.roll(x[:, 0], 1, dims=-1)
        return torch.stack((torch.zeros_like(left), 3 * left), 1)


def test_gradients_fall_on_what_the_logit_hangs_on() -> None:
    patch = torch.full((1, 2, 1, 1, 5), -1.0)
    patch[0, 0, 0, 0, 1] = 2.0  # so voxel 2 is drawn, and nothing else
    field, mass = explaining.gradients(Line(), patch, [ALL], torch.full((1, 1, 5), 0.5))
    expected = torch.zeros(1, 2, 1, 1, 5)
    expected[0, 0, 0, 0, 1] = 3 * 0.5
    torch.testing.assert_close(field, expected)
    assert mass.tolist() == [0.5]


def test_what_is_not_drawn_has_an_empty_map_and_a_region_wins_above_zero() -> None:
    patch = torch.full((1, 2, 1, 1, 5), -1.0)
    field, mass = explaining.gradients(Line(), patch, [ALL], torch.ones(1, 1, 5))
    assert not field.any()
    assert mass.tolist() == [0.0]
    region = Target("region", (1,), regions=True)
    assert region.drawn(torch.tensor([[5.0, 5.0], [1.0, -1.0]])).tolist() == [True, False]
