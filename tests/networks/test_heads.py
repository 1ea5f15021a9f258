"""Adding up windows before a network's last layer gives the logits that adding them up behind it gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoseg.networks import catalog
from autoseg.networks.heads import linear_head, put_off, without_head
from autoseg.networks.passes import Setting, Swap, flips_along
from autoseg.networks.sliding_window import whole
from autoseg.networks.sweep import buffer_bytes, puts_off_heads, sweep
from autoseg.records.errors import UserError
from autoseg.records.geometry import Box
from tests.networks.architectures import small

CLASSES = 20


class Hidden(nn.Module):
    """A network that nothing is known of: its logits are added up."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]


def network(kind: str = "unet", dimensions: int = 3, seed: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(seed)
    return catalog.build(small(kind, dimensions, stages=2, **{"output_channels": CLASSES} | changes)).eval()


def picture(dimensions: int = 3) -> Tensor:
    shape = (1, 7, 21, 18) if dimensions == 2 else (1, 12, 21, 18)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def setting(*networks: nn.Module, dimensions: int = 3, **changes: object) -> Setting:
    patch = (1, 8, 8) if dimensions == 2 else (8, 8, 8)
    keys = {"flips": flips_along((0, 2), dimensions)} | changes
    return Setting(networks, patch, dimensions, **keys)


@pytest.mark.parametrize("kind", ["unet", "residual_unet", "attention_unet", "segresnet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_are_those_of_every_window_added_up(kind: str, dimensions: int) -> None:
    net = network(kind, dimensions)
    asked = setting(net, dimensions=dimensions, window_batch=3)
    assert puts_off_heads((net,), swap=None)
    expected = whole(setting(Hidden(net), dimensions=dimensions, window_batch=3), picture(dimensions))
    torch.testing.assert_close(whole(asked, picture(dimensions)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merge", [True, False])
def test_folds_keep_heads_of_their_own(merge: bool) -> None:
    folds = [network(seed=seed) for seed in range(3)]
    expected = whole(setting(*map(Hidden, folds), merge=merge), picture())
    found = whole(setting(*folds, merge=merge), picture())
    assert found.shape == (1 if merge else 3, CLASSES, 12, 21, 18)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_tile_has_the_very_numbers_of_the_whole() -> None:
    asked, image = setting(network()), picture()
    everything = sweep(asked, image, 0).read(0, 12)
    part = Box(start=(0, 3, 5), stop=(12, 14, 16))
    rows = sweep(asked, image, 0, part)
    found = torch.cat([rows.read(first, first + count) for first, count in ((0, 5), (5, 1), (6, 6))], 2)
    assert torch.equal(found, everything[..., 3:14, 5:16])


def test_logits_are_added_up_where_they_are_fewer_or_change_places() -> None:
    few, many = network(output_channels=3), network()
    swap = Swap(2, tuple(range(CLASSES)))
    assert not puts_off_heads((few,), swap=None)
    assert not puts_off_heads((many,), swap=swap)
    assert not puts_off_heads((many, Hidden(many)), swap=None)
    assert puts_off_heads((many,) * 4, swap=None)
    assert not puts_off_heads((many,) * 5, swap=None)  # 5 x 4 features are no fewer than 20 logits
    assert put_off((many,) * 5, merge=False)


def test_less_is_held_and_the_network_stays_whole() -> None:
    net = network()
    image = picture()
    before = net(image[None, :, :8, :8, :8])
    body = without_head(net)
    assert body(image[None, :, :8, :8, :8]).shape[1] == linear_head(net).in_channels == 4
    assert torch.equal(net(image[None, :, :8, :8, :8]), before)
    sizes = [buffer_bytes(setting(item), CLASSES, 0, (12, 21, 18)) for item in (net, Hidden(net))]
    assert sizes[0] < 0.5 * sizes[1]


def test_a_head_that_overflows_is_named() -> None:
    net = network()
    with torch.no_grad():
        linear_head(net).bias[3] = torch.inf
    with pytest.raises(UserError, match="non-finite values"):
        whole(setting(net), picture())
