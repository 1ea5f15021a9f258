"""The transformers planned for HaN-Seg on small cards learn: 50 real steps on a phantom cut to what a CPU can do."""

import pytest
import torch

from autoseg.networks import catalog, losses, step
from autoseg.records.configuration import Configuration
from autoseg.records.geometry import Shape
from autoseg.records.plan import Plan
from autoseg.storage import read_record
from autoseg.workspace import plans_folder

FOLDER = plans_folder() / "reference" / "han_seg"
STEPS = 50
PRESETS, MEMORIES_GB = ("unetr", "swin_unetr", "primus"), (8, 24)


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
    z, y, x = (max(2 * unit, 16) // unit * unit for unit in divisor)
    arguments = dict(architecture.arguments)
    if "grid" in arguments:
        arguments["grid"] = [size // unit for size, unit in zip((z, y, x), divisor, strict=True)]
    architecture = architecture.model_copy(update={"arguments": arguments})
    return configuration.model_copy(update={"architecture": architecture}), (z, y, x)


def planned(preset: str, memory_gb: int) -> tuple[Plan, Configuration]:
    file = FOLDER / f"{preset}_{memory_gb}gb.json"
    if not file.exists():
        pytest.skip(f"no reference plan: python benchmarks/write_references.py --preset {preset} --dataset han_seg")
    plan = read_record(file, Plan)
    return plan, plan.configuration(f"{preset}_3d")


def losses_of(plan: Plan, configuration: Configuration, shape: Shape) -> list[float]:
    torch.manual_seed(0)
    network = catalog.build(configuration.architecture).train()
    image, labels = phantom(shape, configuration.architecture.input_channels, len(plan.labels.structures))
    loss = losses.make_loss(configuration.recipe, plan.labels, batch_dice=configuration.batch_dice)
    optimizer = step.make_optimizer(network, configuration.recipe)
    target, how = losses.Target(labels), {"precision": "float32", "clip": configuration.recipe.clip}
    return [float(step.train_step(network, loss, optimizer, image, target, **how)) for _ in range(STEPS)]


@pytest.mark.parametrize("memory_gb", MEMORIES_GB)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_planned_transformer_fits_its_card(preset, memory_gb):
    plan, configuration = planned(preset, memory_gb)
    assert configuration.memory.peak_bytes <= plan.device.budget_bytes()
    unit = catalog.divisor(configuration.architecture)
    assert all(size % one == 0 for size, one in zip(configuration.patch_shape, unit, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of one core, more where it does other work
@pytest.mark.parametrize("preset", PRESETS)
def test_the_planned_transformer_learns(preset):
    # Cut to what a CPU can do, the plans of two cards may be of one network: then it is trained once.
    found = {}
    for memory_gb in MEMORIES_GB:
        plan, configuration = planned(preset, memory_gb)
        small, shape = cut(configuration)
        found[small.architecture.digest(), shape] = (plan, small)
    for (_, shape), (plan, small) in found.items():
        values = losses_of(plan, small, shape)
        early, late = sum(values[:10]) / 10, sum(values[-10:]) / 10
        assert late < early - 0.1, values
