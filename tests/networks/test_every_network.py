"""What every network of the catalog promises, checked on its smallest member in 2D and in 3D."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoseg.networks import catalog, memory, onnx_file, weights
from autoseg.networks.losses import Target, make_loss
from autoseg.networks.step import make_optimizer, train_step
from autoseg.records.configuration import Architecture
from autoseg.records.labels import Labels, Structure
from autoseg.records.preset import Recipe
from tests.networks.architectures import SMALLEST

MEMBERS = [
    pytest.param(member, id=f"{kind}_{member.dimensions}d")
    for kind, members in SMALLEST.items()
    for member in members
    if member is not None
]
every_network = pytest.mark.parametrize("architecture", MEMBERS)
QUICK = Recipe(optimizer="adamw", learning_rate=1e-2, weight_decay=0.0)


def built(architecture: Architecture, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return catalog.build(architecture.model_copy(update=changes))


def smallest_shape(architecture: Architecture) -> tuple[int, ...]:
    return catalog.min_shape(architecture)[-architecture.dimensions :]


def longer(architecture: Architecture) -> tuple[int, ...]:
    """The smallest shape, each axis longer by another odd number of steps."""
    steps = catalog.divisor(architecture)[-architecture.dimensions :]
    odd = (1, 3, 5)[-architecture.dimensions :]
    return tuple(size + count * step for size, count, step in zip(smallest_shape(architecture), odd, steps))


def image(architecture: Architecture, shape: tuple[int, ...], samples: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(samples, architecture.input_channels, *shape, generator=generator)


def as_list(outputs: Tensor | list[Tensor]) -> list[Tensor]:
    return outputs if isinstance(outputs, list) else [outputs]


def test_every_kind_has_a_smallest_member() -> None:
    assert set(SMALLEST) == set(catalog.KINDS)
    for kind, members in SMALLEST.items():
        assert any(members), kind
        for dimensions, member in zip((2, 3), members):
            assert member is None or (member.kind, member.dimensions) == (kind, dimensions)


@every_network
def test_logits_lie_on_the_grid_of_the_image(architecture: Architecture) -> None:
    network = built(architecture)
    for shape in (smallest_shape(architecture), longer(architecture)):
        outputs = as_list(network(image(architecture, shape, samples=2)))
        assert tuple(outputs[0].shape) == (2, architecture.output_channels, *shape)
        assert all(item.isfinite().all() for item in outputs)
        sizes = [item[0, 0].numel() for item in outputs]
        assert sizes == sorted(set(sizes), reverse=True), "finest first, none twice"


@every_network
def test_evaluation_gives_one_tensor_and_the_same_again(architecture: Architecture) -> None:
    network = built(architecture).eval()
    x = image(architecture, longer(architecture))
    with torch.no_grad():
        first, second = network(x), network(x)
    assert isinstance(first, Tensor)
    assert tuple(first.shape[2:]) == tuple(x.shape[2:])
    assert torch.equal(first, second)


@every_network
def test_without_deep_supervision_training_gives_one_tensor(architecture: Architecture) -> None:
    network = built(architecture, deep_supervision=False)
    outputs = network(image(architecture, smallest_shape(architecture)))
    assert isinstance(outputs, Tensor)
    outputs.square().sum().backward()
    assert [name for name, item in network.named_parameters() if item.grad is None] == []


@every_network
def test_samples_of_a_batch_do_not_see_each_other(architecture: Architecture) -> None:
    network = built(architecture).eval()
    x = image(architecture, smallest_shape(architecture), samples=2)
    with torch.no_grad():
        together, alone = network(x), network(x[1:])
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


@every_network
def test_every_parameter_gets_a_gradient(architecture: Architecture) -> None:
    network = built(architecture)
    # Scales that start at zero hide the weights behind them, and a ReLU may be shut for one draw of weights.
    for _ in range(4):
        for item in network.parameters():
            nn.init.normal_(item, std=0.2)
        outputs = as_list(network(image(architecture, longer(architecture), samples=2)))
        sum(item.square().sum() for item in outputs).backward()
    idle = [name for name, item in network.named_parameters() if item.grad is None or not item.grad.abs().sum()]
    assert idle == []


@every_network
def test_checkpointing_changes_no_gradient(architecture: Architecture) -> None:
    gradients = []
    for checkpointing in (False, True):
        network = built(architecture, checkpointing=checkpointing)
        outputs = as_list(network(image(architecture, smallest_shape(architecture))))
        sum(item.square().mean() for item in outputs).backward()
        gradients.append([item.grad for item in network.parameters()])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@every_network
def test_weights_come_back_from_a_file(architecture: Architecture, tmp_path: Path) -> None:
    network = built(architecture).eval()
    weights.save(tmp_path / "model.safetensors", network.state_dict(), {})
    torch.manual_seed(5)
    other = catalog.build(architecture).eval()
    x = image(architecture, smallest_shape(architecture))
    with torch.no_grad():
        # Heads may start at equal weights; all parameters together do not.
        assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters()))
        tensors, _ = weights.load(tmp_path / "model.safetensors")
        with torch.device("meta"):
            weights.check(catalog.build(architecture), tensors, file="model")
        weights.load_into(other, tensors, file="model")
        assert torch.equal(network(x), other(x))


@every_network
def test_one_image_is_learned_by_heart(architecture: Architecture) -> None:
    network = built(architecture)
    shape = tuple(max(8, size) for size in longer(architecture))
    # A bright near half, a dark quarter, and the rest.
    truth = torch.zeros(1, *shape, dtype=torch.int64)
    truth[..., : shape[-2] // 2, :] = 2
    truth[..., : shape[-1] // 2] = 1
    x = torch.tensor([0.0, 1.0, -1.0])[truth][:, None] + 0.2 * image(architecture, shape)
    structures = tuple(Structure(name=str(value), value=value, original=value) for value in (1, 2))
    loss = make_loss(QUICK, Labels(structures=structures), batch_dice=False)
    optimizer = make_optimizer(network, QUICK)
    flat = architecture.dimensions == 2
    given, target = (x[:, :, None], Target(truth[:, None])) if flat else (x, Target(truth))
    losses = [
        train_step(
            network, loss, optimizer, given, target, precision="float32", clip=12.0, dimensions=architecture.dimensions
        )
        for _ in range(35)
    ]
    assert losses[-1] < 0.4 * losses[0]


@every_network
def test_a_step_is_counted_on_fake_tensors(architecture: Architecture) -> None:
    patch = tuple(size if size == 1 else 2 * size for size in catalog.min_shape(architecture))
    # Both ways through a stage are counted by turns, plain in 2D and recomputed in 3D.
    counted = architecture.model_copy(update={"checkpointing": architecture.dimensions == 3})
    cost, window = memory.measure_step(counted, Recipe(), patch, 2), memory.measure_window(counted, patch, 2)
    assert cost.parameters == sum(item.numel() for item in built(architecture).parameters())
    assert cost.peak_bytes > 3 * 4 * cost.parameters
    assert cost.flops > (2.5 if architecture.dimensions == 2 else 3.5) * window.flops


@pytest.mark.slow
@every_network
def test_onnx_computes_the_same(architecture: Architecture) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"the export needs {package}")
    network, shape = built(architecture).eval(), longer(architecture)
    twin = onnx_file.load(onnx_file.write(network, architecture.input_channels, shape), file="network.onnx")
    for samples in (1, 3):
        x = image(architecture, shape, samples)
        with torch.no_grad():
            torch.testing.assert_close(twin(x), network(x), atol=1e-4, rtol=1e-3)
