from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from autoseg.networks import memory, tracking
from autoseg.records.preset import Recipe
from tests.networks.architectures import anisotropic, small

KINDS = ("unet", "residual_unet", "attention_unet")
PATCH = (16, 16, 16)


def step_maker(network: nn.Module, recipe: Recipe) -> memory.Step:
    """A step like that of training, of torch's own parts."""
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    memory.fill_state(optimizer)

    def step(image: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(image)
        sum(F.cross_entropy(item.float(), item.argmax(1)) for item in outputs).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()

    return step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_fake_tensors_count_what_real_ones_hold(kind: str, checkpointing: bool) -> None:
    architecture = anisotropic(kind, checkpointing=checkpointing)
    fake, real = (
        memory.count(architecture, (*PATCH, 2), partial(step_maker, recipe=Recipe()), device_kind="cpu", fake=fake)
        for fake in (True, False)
    )
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.01)
    assert (fake.flops, fake.parameters) == (real.flops, real.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_was_measured_before_costs_what_a_new_one_does(kind: str) -> None:
    architecture, recipe, batches = anisotropic(kind), Recipe(), (2, 5, 1)
    memory.forget()
    in_a_row = [memory.measure_step(architecture, recipe, PATCH, batch) for batch in batches]
    alone = []
    for batch in batches:
        memory.forget()
        alone.append(memory.measure_step(architecture, recipe, PATCH, batch))
    assert in_a_row == alone
    assert len({cost.peak_bytes for cost in alone}) == 3


def test_a_step_that_leaves_tensors_behind_is_not_followed_by_another_on_its_network() -> None:
    kept: list[torch.Tensor] = []
    bench = memory.Bench(small(), lambda network: lambda image: kept.append(network(image)), device_kind="cpu")
    assert bench.clean
    bench.measure((*PATCH, 1))
    assert not bench.clean


@pytest.mark.parametrize("kind", KINDS)
def test_plain_operators_answered_at_once_change_no_number(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cost() -> memory.StepCost:
        memory.forget()
        return memory.measure_step(anisotropic(kind, checkpointing=True), Recipe(), PATCH, 2)

    quick = cost()
    monkeypatch.setattr(tracking, "PLAIN", frozenset())
    assert cost() == quick


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(6, -1),
        lambda x: x.detach(),
        lambda x: x[:, 1:, ::2],
        lambda x: x.transpose(0, 2).unsqueeze(1),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.to(torch.float32, memory_format=torch.contiguous_format),
        lambda x: x[:, :1].expand(2, 3, 8),
        lambda x: x.t() if x.dim() == 2 else x.permute(2, 0, 1),
    ],
)
def test_an_operator_answered_at_once_gives_what_torch_gives(call) -> None:
    real = call(torch.zeros(2, 3, 8))
    with FakeTensorMode(), tracking.StorageTracker(fake=True):
        image = torch.zeros(2, 3, 8)
        fake = call(image)
        assert (fake.shape, fake.stride(), fake.dtype, fake.device) == (
            real.shape,
            real.stride(),
            real.dtype,
            real.device,
        )
        shares = fake.untyped_storage()._cdata == image.untyped_storage()._cdata
    assert shares == (real.dtype == torch.float32)


def test_the_gradient_of_a_norm_is_counted_in_its_real_type() -> None:
    """Here a norm's backward pass is the worst moment, and torch's fake kernel would make it 5 % worse."""
    make = partial(step_maker, recipe=Recipe())
    architecture = small(stages=4, features=16)
    fake, real = (
        memory.count(architecture, (16, 32, 32, 2), make, device_kind="cpu", fake=choice) for choice in (True, False)
    )
    assert fake.peak_bytes == pytest.approx(real.peak_bytes, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_linear_in_the_voxels_of_a_batch(kind: str) -> None:
    points = []
    for patch, batch in (((32, 32, 32), 2), ((64, 64, 64), 2), ((32, 64, 64), 5)):
        cost = memory.measure_step(small(kind), Recipe(), patch, batch, run=step_maker)
        points.append((*patch, batch, cost.peak_bytes))
    line = memory.fit_linear(points[:2])
    assert line.bytes_at((32, 64, 64), 5) == pytest.approx(points[2][4], rel=0.01)


def test_parts_add_up() -> None:
    """One convolution of known size: weights, gradient, momentum, image, output, gradient of the output."""
    architecture = small(stages=2, features=8)

    def one_layer(network: nn.Module) -> memory.Step:
        weight = torch.zeros(4, 1, 1, 1, 1, requires_grad=True)

        def step(image: Tensor) -> None:
            F.conv3d(image, weight).sum().backward()

        return step

    nothing = memory.count(architecture, (16, 16, 16, 2), lambda network: lambda image: None)
    cost = memory.count(architecture, (16, 16, 16, 2), one_layer)
    voxels = 2 * 16**3
    # The output goes before the backward pass ends; its gradient is one expanded number.
    assert cost.peak_bytes - nothing.peak_bytes == pytest.approx(4 * voxels * 4, abs=4096)
    # Forward and the gradient of the weight; the image needs none.
    assert cost.flops == 2 * (2 * voxels * 4)


def test_operations_of_the_backward_pass_are_counted() -> None:
    architecture = small()
    window = memory.measure_window(architecture, PATCH, 2)
    step = memory.measure_step(architecture, Recipe(), PATCH, 2, run=step_maker)
    first_layer = 2 * 2 * 16**3 * 4 * 27
    coarser_head = 2 * 2 * 8**3 * 8 * 3
    # Twice the forward pass again, except that nobody asks for the gradient of the image.
    assert step.flops == 3 * (window.flops + coarser_head) - first_layer


def test_prediction_costs_less_than_training_and_needs_no_gradient() -> None:
    window = memory.measure_window(anisotropic(), PATCH, 2)
    step = memory.measure_step(anisotropic(), Recipe(), PATCH, 2, run=step_maker)
    assert window.parameters == step.parameters
    assert window.peak_bytes < 0.6 * step.peak_bytes


def test_checkpointing_spares_memory_and_costs_operations() -> None:
    plain, spared = (
        memory.measure_step(small(checkpointing=choice), Recipe(), (32, 32, 32), 2, run=step_maker)
        for choice in (False, True)
    )
    assert spared.peak_bytes < 0.8 * plain.peak_bytes
    assert spared.flops > 1.2 * plain.flops


def test_group_norm_is_counted_in_float32_for_a_card() -> None:
    def normed(network: nn.Module) -> memory.Step:
        norm = nn.GroupNorm(2, 8)
        lift = nn.Conv3d(1, 8, 1)

        def step(image: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return norm(lift(image))  # type: ignore[no-any-return]

        return step

    card, cpu = (memory.count(small(), (32, 32, 32, 1), normed, device_kind=kind) for kind in ("cuda", "cpu"))
    # Kept: input and output of the norm, in float32 instead of bfloat16, and the convolution's own output.
    assert card.peak_bytes - cpu.peak_bytes == pytest.approx(32**3 * 8 * 6, rel=0.05)


def test_checkpointed_group_norm_is_recomputed_as_on_a_card() -> None:
    from autoseg.networks import blocks

    def normed(network: nn.Module) -> memory.Step:
        stage = nn.Sequential(nn.Conv3d(1, 8, 1), nn.GroupNorm(2, 8), nn.Conv3d(8, 1, 1))

        def step(image: Tensor) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                value = blocks.checkpointed(stage, image)
            value.float().square().mean().backward()

        return step

    # A second computation in another type than the first would raise torch's CheckpointError.
    card, cpu = (memory.count(small(), (32, 32, 32, 1), normed, device_kind=kind) for kind in ("cuda", "cpu"))
    assert card.peak_bytes > cpu.peak_bytes + 32**3 * 8 * 4


def test_measuring_draws_nothing_from_the_generator() -> None:
    before = torch.random.get_rng_state()
    memory.measure_step(small(), Recipe(), PATCH, 1, run=step_maker)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_line_needs_two_sizes() -> None:
    assert memory.fit_linear([(1, 1, 10, 1, 130), (1, 2, 10, 1, 160)]) == memory.LinearMemory(100.0, 3.0)
    with pytest.raises(ValueError, match="two different numbers of voxels"):
        memory.fit_linear([(1, 1, 10, 1, 130), (1, 1, 5, 2, 130)])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_step_of_training_is_measured(dimensions: int) -> None:
    pytest.importorskip("autoseg.networks.step", reason="the training step is not there")
    patch = PATCH if dimensions == 3 else (1, 32, 32)
    architecture = small(dimensions=dimensions, features=32)
    recipes = {"sgd": Recipe(), "adamw": Recipe(optimizer="adamw"), "average": Recipe(ema_decay=0.99)}
    costs = {name: memory.measure_step(architecture, recipe, patch, 2) for name, recipe in recipes.items()}
    # AdamW keeps two numbers a parameter instead of one, and an average is one more.
    for name in ("adamw", "average"):
        more = costs[name].peak_bytes - costs["sgd"].peak_bytes
        assert more == pytest.approx(4 * costs["sgd"].parameters, rel=0.1)
    assert memory.measure_step(architecture, Recipe(), patch, 2) is costs["sgd"]
