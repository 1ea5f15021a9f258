"""The transformers planned for HaN-Seg on small cards learn: 50 real steps on a phantom cut to what a CPU can do."""

import pytest
import torch

from autoseg.networks import catalog, losses, step
from autoseg.records.geometry import Shape
from autoseg.records.plan import Configuration, Plan
from autoseg.workspace import plans_folder, read_record

FOLDER = plans_folder() / "reference" / "han_seg"
STEPS = 50


def phantom(shape: Shape, channels: int, structures: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A block a structure, each of its own brightness, in two channels and with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, structures + 1, [size // 8 for size in shape], generator=generator)
    labels = coarse
    for axis in range(3):
        labels = labels.repeat_interleave(8, axis)
    noise = torch.randn(1, channels, *shape, generator=generator)
    return labels / structures + 0.1 * noise, labels[None]


def cut(configuration: Configuration) -> tuple[Configuration, Shape]:
    """The same network on the smallest patch that has two of its coarsest voxels along each axis."""
    architecture = configuration.architecture
    divisor = catalog.divisor(architecture)
    z, y, x = (max(2 * unit, 32) // unit * unit for unit in divisor)
    arguments = dict(architecture.arguments)
    if "grid" in arguments:
        arguments["grid"] = [size // unit for size, unit in zip((z, y, x), divisor, strict=True)]
    architecture = architecture.model_copy(update={"arguments": arguments})
    return configuration.model_copy(update={"architecture": architecture}), (z, y, x)


@pytest.mark.slow
@pytest.mark.parametrize("memory_gb", [8, 24])
@pytest.mark.parametrize("preset", ["unetr", "swin_unetr", "primus"])
def test_the_planned_transformer_fits_and_learns(preset, memory_gb):
    file = FOLDER / f"{preset}_{memory_gb}gb.json"
    if not file.exists():
        pytest.skip(f"no reference plan: python benchmarks/write_references.py --preset {preset} --dataset han_seg")
    plan = read_record(file, Plan)
    planned = plan.configuration(f"{preset}_3d")
    assert planned.memory.peak_bytes <= plan.device.budget_bytes()
    configuration, shape = cut(planned)
    torch.manual_seed(0)
    network = catalog.build(configuration.architecture).train()
    image, labels = phantom(shape, configuration.architecture.input_channels, len(plan.labels.structures))
    loss = losses.make_loss(configuration.recipe, plan.labels, batch_dice=configuration.batch_dice)
    optimizer = step.make_optimizer(network, configuration.recipe)
    values = [
        float(
            step.train_step(
                network,
                loss,
                optimizer,
                image,
                losses.Target(labels),
                precision="float32",
                clip=configuration.recipe.clip,
            )
        )
        for _ in range(STEPS)
    ]
    early, late = sum(values[:10]) / 10, sum(values[-10:]) / 10
    assert late < early - 0.1, values
