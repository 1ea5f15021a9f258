"""One training step: it learns, clips, skips what is not finite, and keeps its average."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from autoseg.networks import step
from autoseg.networks.losses import Target, make_loss
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels, Structure
from autoseg.records.preset import Recipe

LABELS = Labels(structures=(Structure(name="ball", value=1, original=1),))


def parts(optimizer: str = "sgd", **more: object) -> tuple:
    torch.manual_seed(0)
    recipe = Recipe(optimizer=optimizer, learning_rate=0.01, **more)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1))
    image = torch.randn(2, 1, 4, 6, 6)
    target = Target((image[:, 0] > 0).to(torch.uint8))
    return network, make_loss(recipe, LABELS, batch_dice=False), step.make_optimizer(network, recipe), image, target


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [item.detach().clone() for item in network.parameters()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_falls(optimizer: str, precision: str) -> None:
    network, loss, optimiser, image, target = parts(optimizer, momentum=0.9)
    values = [
        step.train_step(network, loss, optimiser, image, target, precision=precision, clip=12.0) for _ in range(30)
    ]
    assert values[-1] < 0.9 * values[0]
    assert values[0].dtype == torch.float32
    assert not values[0].requires_grad


def test_first_step_of_sgd_is_the_textbook_step() -> None:
    network, loss, optimiser, image, target = parts(momentum=0.9, weight_decay=0.1)
    before = weights(network)
    loss(network(image), target).backward()
    slopes = [item.grad + 0.1 * item.detach() for item in network.parameters()]
    step.train_step(network, loss, optimiser, image, target, precision="float32", clip=0)
    for new, old, slope in zip(network.parameters(), before, slopes):
        torch.testing.assert_close(new.detach(), old - 0.01 * (slope + 0.9 * slope))


def test_gradients_are_clipped_to_their_common_norm() -> None:
    network, loss, optimiser, image, target = parts()
    step.train_step(network, loss, optimiser, image, target, precision="float32", clip=1e-3)
    total = sum(item.grad.square().sum() for item in network.parameters()).sqrt()
    assert total.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_a_step_that_is_not_finite_changes_nothing_and_says_so(optimizer: str) -> None:
    network, loss, optimiser, image, target = parts(optimizer)
    before = weights(network)
    bad = image.clone()
    bad[0, 0, 0, 0, 0] = torch.nan
    value = step.train_step(network, loss, optimiser, bad, target, precision="float32", clip=12.0)
    assert not torch.isfinite(value)
    assert all(torch.equal(old, new) for old, new in zip(before, weights(network)))

    twin, _, other, _, _ = parts(optimizer)
    for net, opt in ((network, optimiser), (twin, other)):
        step.train_step(net, loss, opt, image, target, precision="float32", clip=12.0)
    assert all(torch.equal(mine, new) for mine, new in zip(weights(twin), weights(network)))


def test_two_dimensional_networks_get_no_z_axis() -> None:
    _, loss, _, image, target = parts()
    network = nn.Conv2d(1, 2, 3, padding=1)
    optimiser = step.make_optimizer(network, Recipe())
    flat = Target(target.labels[:, :1])
    value = step.train_step(
        network, loss, optimiser, image[:, :, :1], flat, precision="float32", clip=12.0, dimensions=2
    )
    assert torch.isfinite(value)


def test_the_average_follows_the_weights() -> None:
    network, loss, optimiser, image, target = parts()
    average = step.make_average(network, 0.75)
    start = weights(network)
    step.train_step(network, loss, optimiser, image, target, precision="float32", clip=12.0, ema=average)
    for mean, old, new in zip(average.tensors, start, network.parameters()):
        torch.testing.assert_close(mean, 0.75 * old + 0.25 * new.detach())
    assert step.make_average(network, 0) is None


def test_resuming_from_the_optimisers_state_is_byte_for_byte() -> None:
    network, loss, optimiser, image, target = parts(momentum=0.9)
    run = {"precision": "float32", "clip": 12.0}
    step.train_step(network, loss, optimiser, image, target, **run)
    saved = copy.deepcopy((network.state_dict(), optimiser.state_dict()))
    step.train_step(network, loss, optimiser, image, target, **run)
    again, _, other, _, _ = parts(momentum=0.9)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    step.train_step(again, loss, other, image, target, **run)
    assert all(torch.equal(a, b) for a, b in zip(weights(network), weights(again)))


def test_an_unsettled_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="precision 'auto' is none that a network can compute in"):
        step.autocast("cpu", "auto")


def test_float16_needs_a_scaler_on_cuda_only() -> None:
    assert step.make_scaler("cpu", "float16") is None
    assert step.make_scaler("cuda", "bfloat16") is None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_runs_on_fake_tensors(optimizer: str) -> None:
    with FakeTensorMode():
        network, loss, optimiser, image, target = parts(optimizer)
        average = step.make_average(network, 0.9)
        for _ in range(2):
            value = step.train_step(
                network, loss, optimiser, image, target, precision="bfloat16", clip=12.0, ema=average
            )
    assert value.shape == ()
