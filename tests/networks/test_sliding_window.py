"""Windows over whole images: constants stay constant, the identity is the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoseg.networks.passes import Setting, Swap, flips_along
from autoseg.networks.patches import window_starts
from autoseg.networks.sliding_window import as_tensor, whole
from autoseg.networks.sweep import sweep
from autoseg.records.errors import UserError

PATCH = (4, 6, 5)


class Constant(nn.Module):
    """Two output channels of one value each, whatever comes in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ones = torch.ones_like(x[:, :1])
        return torch.cat([3 * ones, -2 * ones], 1)


class Scaled(nn.Module):
    """The identity times a factor; counts what it was given."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return x * self.factor


class Ramp(nn.Module):
    """The position along x within the patch: not symmetric."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arange(x.shape[-1], dtype=x.dtype).expand_as(x)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def run(network: nn.Module, picture: torch.Tensor | np.ndarray, patch: tuple[int, int, int] = PATCH, **more):
    return run_all([network], picture, patch, **more)[0]


def run_all(
    networks: list[nn.Module],
    picture: torch.Tensor | np.ndarray,
    patch: tuple[int, int, int] = PATCH,
    *,
    dimensions: int = 3,
    mirror_axes: tuple[int, ...] = (),
    **more,
) -> torch.Tensor:
    """Logits of every field over the whole image."""
    flips = flips_along(mirror_axes, dimensions)
    return whole(Setting(tuple(networks), patch, dimensions, flips, **more), as_tensor(picture))


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 11), st.integers(1, 11), st.integers(1, 11)),
    st.sampled_from([(), (0,), (1, 2), (0, 1, 2)]),
    st.integers(1, 9),
)
def test_constants_and_the_identity_survive_any_shape(
    shape: tuple[int, int, int], mirror_axes: tuple[int, ...], window_batch: int
) -> None:
    picture = image(1, *shape)
    keys = {"mirror_axes": mirror_axes, "window_batch": window_batch}
    constant = run(Constant(), picture, **keys)
    assert constant.shape == (2, *shape)
    torch.testing.assert_close(constant[0], torch.full(shape, 3.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(constant[1], torch.full(shape, -2.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(run(nn.Identity(), picture, **keys), picture, rtol=1e-5, atol=1e-6)


def test_two_dimensional_networks_see_slices_in_batches() -> None:
    network = Scaled()
    picture = image(2, 7, 9, 8)
    out = run(network, picture, (1, 6, 5), dimensions=2, mirror_axes=(0, 1, 2), window_batch=6)
    torch.testing.assert_close(out, picture, rtol=0, atol=1e-5)
    windows = 7 * len(window_starts(9, 6, 0.5)) * len(window_starts(8, 5, 0.5)) * 4
    assert sum(shape[0] for shape in network.shapes) == windows
    assert {shape[1:] for shape in network.shapes} == {(2, 6, 5)}
    assert {shape[0] for shape in network.shapes} == {4}  # a window with its four flips; two would be eight


def test_a_small_image_is_centred_in_zeros() -> None:
    class Place(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.sum(dim=(0, 1, 2, 3)).tolist() == [0, 0, 6, 6, 6, 0, 0]
            return torch.arange(7.0).expand_as(x)

    out = run(Place(), torch.ones(1, 2, 3, 3), (4, 5, 7))
    assert out[0, 0, 0].tolist() == [2, 3, 4]


def test_mirrors_are_averaged() -> None:
    picture = image(1, 4, 6, 5)
    torch.testing.assert_close(run(Ramp(), picture)[0, 0, 0], torch.arange(5.0))
    torch.testing.assert_close(run(Ramp(), picture, mirror_axes=(2,)), torch.full((1, 4, 6, 5), 2.0))
    torch.testing.assert_close(run(Ramp(), picture, mirror_axes=(0, 1))[0, 0, 0], torch.arange(5.0))


def test_mirroring_changes_nothing_for_a_symmetric_network() -> None:
    network = nn.Conv3d(1, 2, 3, padding=1)
    weight = network.weight.data
    network.weight.data = weight + weight.flip(2) + weight.flip(3) + weight.flip(2, 3)
    picture = image(1, 7, 8, 9)
    torch.testing.assert_close(run(network, picture), run(network, picture, mirror_axes=(0, 1)), atol=1e-5, rtol=1e-5)


def test_networks_are_averaged_or_kept_apart() -> None:
    picture = image(1, 5, 9, 7)
    pair = [Scaled(1), Scaled(3)]
    (mean,) = run_all(pair, picture, mirror_axes=(1,))
    torch.testing.assert_close(mean, 2 * picture, rtol=0, atol=1e-5)
    first, second = run_all(pair, picture, mirror_axes=(1,), merge=False)
    torch.testing.assert_close(first, picture, rtol=0, atol=1e-5)
    torch.testing.assert_close(second, 3 * picture, rtol=0, atol=1e-5)


def test_the_result_does_not_depend_on_the_batch_and_takes_numpy() -> None:
    network = nn.Conv3d(1, 3, 3, padding=1)
    picture = image(1, 9, 9, 9)
    one = run(network, picture, mirror_axes=(0, 2), window_batch=1)
    stored = picture.numpy()
    stored.flags.writeable = False
    many = run(network, stored, mirror_axes=(0, 2), window_batch=7)
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)
    assert one.dtype == torch.float32
    assert not one.requires_grad


def test_training_mode_comes_back_and_the_finest_output_counts() -> None:
    class Deep(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor] | torch.Tensor:
            assert not self.training
            return [x, x[..., ::2]]

    network = Deep().train()
    picture = image(1, 4, 6, 5)
    assert torch.equal(run(network, picture), picture)
    assert network.training


def test_bfloat16_is_near_float32() -> None:
    network = nn.Conv3d(1, 2, 3, padding=1)
    picture = image(1, 6, 7, 8)
    exact, rough = run(network, picture), run(network, picture, precision="bfloat16")
    torch.testing.assert_close(exact, rough, atol=0.05, rtol=0.05)
    assert not torch.equal(exact, rough)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_logits_are_an_error(value: float) -> None:
    class Bad(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.cat([x, x], 1)
            out[:, 1, 0, 0, 0] = value
            return out

    with pytest.raises(UserError, match=r"^the network gave non-finite values"):
        run(Bad(), image(1, 6, 7, 8))


def test_cancelling_stops_before_the_next_batch() -> None:
    network = Scaled()
    with pytest.raises(UserError, match="cancelled"):
        run(network, image(1, 9, 9, 9), window_batch=1, cancel=lambda: len(network.shapes) == 2)
    assert len(network.shapes) == 2


class Sided(nn.Module):
    """Structure 1 in the lower half along x and structure 2 in the upper, by place alone, as learned with swaps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        upper = torch.zeros_like(x)
        upper[..., x.shape[-1] // 2 :] = 1
        return torch.cat([torch.zeros_like(x), 1 - upper, upper], 1)


def test_a_mirrored_prediction_exchanges_the_twins():
    picture, patch = image(1, 4, 6, 6), (4, 6, 6)
    straight = run(Sided(), picture, patch)
    swap = Swap(axis=2, channels=(0, 2, 1))
    torch.testing.assert_close(run(Sided(), picture, patch, mirror_axes=(1, 2), swap=swap), straight)
    confused = run(Sided(), picture, patch, mirror_axes=(2,))
    assert torch.equal(confused[1], confused[2]), "without the exchange left and right become one"


def test_a_cascade_s_input_is_exchanged_too():
    """The network repeats its second and third input channel as what it finds: a flip must not turn them around."""
    picture, patch = image(3, 4, 6, 6), (4, 6, 6)
    swap = Swap(axis=2, channels=(0, 2, 1), inputs=(0, 2, 1))
    torch.testing.assert_close(run(Scaled(), picture, patch, mirror_axes=(0, 2), swap=swap), picture)


def test_between_two_rows_gradients_are_as_they_were() -> None:
    network = torch.nn.Conv3d(1, 2, 1)
    setting = Setting(
        networks=(network,),
        patch=(4, 4, 4),
        dimensions=3,
        flips=flips_along((), 3),
        step_fraction=0.5,
        precision="float32",
        device=torch.device("cpu"),
        window_batch=1,
    )
    rows = iter(sweep(setting, torch.ones(1, 12, 4, 4), 0).finished)
    next(rows)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    network(torch.ones(1, 1, 4, 4, 4)).sum().backward()
