"""Bytes and operations of one real training step, counted on fake tensors: any network, any machine, no card.

The average of the weights, the loss of many classes and a batch are part of the step. Data lie in the host's memory,
a batch is changed before its step begins, and validation holds no gradients: none of them adds to the peak.
Not counted, because no tensor shows it: the driver's context, workspaces of single kernels, fragmentation.
"""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from autoseg.networks.catalog import build
from autoseg.networks.heads import without_head
from autoseg.networks.tracking import CardAutocast, StorageTracker
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape
from autoseg.records.labels import Labels, Region, Structure
from autoseg.records.preset import Recipe

Step = Callable[[Tensor], object]
StepMaker = Callable[[nn.Module, Recipe], Step]

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class StepCost:
    """What one step holds at its worst moment, and what it computes.

    Attributes:
        peak_bytes: Parameters, gradients, optimiser state, averages, activations, input and target.
        parameters: Trainable numbers.
        flops: Floating-point operations of convolutions, matrix products and attention, forward and backward.
    """

    peak_bytes: int
    parameters: int
    flops: float


@dataclass(frozen=True)
class LinearMemory:
    """Bytes as a straight line over the voxels of a batch, which is exact for a convolutional network."""

    fixed_bytes: float
    bytes_per_voxel: float

    def bytes_at(self, patch_shape: Sequence[int], batch_size: int) -> float:
        """Return the bytes of a step on `batch_size` patches of this shape (z, y, x)."""
        return self.fixed_bytes + self.bytes_per_voxel * math.prod(patch_shape) * batch_size


def measure_step(
    architecture: Architecture,
    recipe: Recipe,
    patch_shape: Shape,
    batch_size: int,
    *,
    precision: str = "bfloat16",
    device_kind: str = "cuda",
    run: StepMaker | None = None,
) -> StepCost:
    """Return what one training step costs, with the optimiser's state already there as it is from the second step on.

    Args:
        architecture: The network.
        recipe: Decides loss, optimiser and average.
        patch_shape: Voxels along (z, y, x); z = 1 in 2D.
        batch_size: Patches.
        precision: `float32`, `bfloat16` or `float16`, of the forward pass.
        device_kind: `cuda` counts what CUDA autocast would hold in float32; `cpu` and `mps` what the CPU's does.
        run: Given (network, recipe), returns the step to count: called with the image (B, C, Z, Y, X). None takes
            the step that training takes.

    Raises:
        UsageError: The architecture is wrong (see `catalog.build`).
    """
    if run is None:
        return _measured(
            architecture.model_dump_json(),
            recipe.model_dump_json(),
            (*patch_shape, batch_size),
            precision=precision,
            device_kind=device_kind,
        )
    return count(
        architecture, (*patch_shape, batch_size), lambda network: run(network, recipe), device_kind=device_kind
    )


def load() -> None:
    """Do now what the first measurement does once: torch loads modules and operator tables with fake tensors."""
    stages: list[JsonValue] = [8, 16]
    steps: list[JsonValue] = [[1, 1, 1], [2, 2, 2]]
    sizes: dict[str, JsonValue] = {"features": stages, "strides": steps, "kernels": [[3, 3, 3], [3, 3, 3]]}
    blocks: dict[str, JsonValue] = {"blocks": [1, 1], "decoder_blocks": [1]}
    small = Architecture(kind="unet", dimensions=3, input_channels=1, output_channels=2, arguments={**sizes, **blocks})
    measure_step(small, Recipe(), (8, 8, 8), 2)


def forget() -> None:
    """Measure every step anew, even one that this process has measured before."""
    _measured.cache_clear()
    _bench.cache_clear()


def measure_window(
    architecture: Architecture,
    patch_shape: Shape,
    batch_size: int,
    *,
    precision: str = "bfloat16",
    device_kind: str = "cuda",
    headless: bool = False,
) -> StepCost:
    """Return what predicting one batch of windows costs, the network in evaluation mode.

    On a CPU this counts the copies in which convolutions are computed as well.

    Args:
        architecture: The network.
        patch_shape: Voxels along (z, y, x); z = 1 in 2D.
        batch_size: Windows at once.
        precision: As in `measure_step`.
        device_kind: As in `measure_step`.
        headless: Whether windows are added up before the network's last layer.

    Raises:
        UsageError: The architecture is wrong (see `catalog.build`).
    """
    return _measured(
        architecture.model_dump_json(),
        None,
        (*patch_shape, batch_size),
        precision=precision,
        device_kind=device_kind,
        headless=headless,
    )


def fit_linear(points: Sequence[tuple[int, int, int, int, int]]) -> LinearMemory:
    """Return the line through measured steps, by least squares.

    Args:
        points: (z, y, x, batch, bytes) each, as `MemoryEstimate.points` keeps them.

    Raises:
        ValueError: Fewer than two different numbers of voxels.
    """
    voxels = [float(math.prod(point[:4])) for point in points]
    sizes = [float(point[4]) for point in points]
    if len(set(voxels)) < 2:
        raise ValueError(f"a line needs two different numbers of voxels, not {sorted(set(voxels))}")
    middle, level = sum(voxels) / len(voxels), sum(sizes) / len(sizes)
    spread = sum((voxel - middle) ** 2 for voxel in voxels)
    slope = sum((voxel - middle) * (size - level) for voxel, size in zip(voxels, sizes)) / spread
    return LinearMemory(fixed_bytes=level - slope * middle, bytes_per_voxel=slope)


def count(
    architecture: Architecture,
    shape: tuple[int, int, int, int],
    make: Callable[[nn.Module], Step],
    *,
    device_kind: str = "cuda",
    fake: bool = True,
    blocked: bool = False,
) -> StepCost:
    """Return the cost of the step that `make(network)` gives.

    Args:
        architecture: The network.
        shape: (z, y, x, batch).
        make: Network -> a function of the image (B, C, Z, Y, X). What it allocates counts as there from the start.
        device_kind: As in `measure_step`.
        fake: Whether tensors are without content; False runs the same step on real ones.
        blocked: Whether to count the copies in which a CPU computes convolutions.
    """
    return Bench(architecture, make, device_kind=device_kind, fake=fake, blocked=blocked).measure(shape)


class Bench:
    """A network and its step, to be measured at one shape after the other.

    Attributes:
        clean: Whether the last measurement left nothing behind, so that another one may follow.
    """

    def __init__(
        self,
        architecture: Architecture,
        make: Callable[[nn.Module], Step],
        *,
        device_kind: str,
        fake: bool = True,
        blocked: bool = False,
    ) -> None:
        self._mode = FakeTensorMode() if fake else None
        self._tracker = StorageTracker(fake=fake, blocked=blocked)
        self._on_a_card = device_kind == "cuda"
        self._channels = architecture.input_channels
        with self._watched():
            self._network = build(architecture)
            self._step = make(self._network)
        self._held_bytes = self._tracker.live_bytes
        self.clean = True

    def measure(self, shape: tuple[int, int, int, int]) -> StepCost:
        """Return the cost of a step at (z, y, x, batch)."""
        *patch, batch = shape
        self.clean = False
        with self._watched():
            image = torch.zeros(batch, self._channels, *patch)
            self._tracker.restart()
            self._step(image)
            del image
            for item in self._network.parameters():
                item.grad = None
        self.clean = self._tracker.live_bytes == self._held_bytes
        trainable = sum(item.numel() for item in self._network.parameters() if item.requires_grad)
        return StepCost(peak_bytes=self._tracker.peak_bytes, parameters=trainable, flops=self._tracker.flops)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        autocast = CardAutocast() if self._on_a_card else contextlib.nullcontext()
        with self._mode or contextlib.nullcontext(), self._tracker, autocast:
            yield


# Planning asks for the same point many times; the key is the records' whole content.
@lru_cache(maxsize=4096)
def _measured(
    architecture_json: str,
    recipe_json: str | None,
    shape: tuple[int, int, int, int],
    *,
    precision: str,
    device_kind: str,
    headless: bool = False,
) -> StepCost:
    bench = _bench(architecture_json, recipe_json, precision=precision, device_kind=device_kind, headless=headless)
    try:
        return bench.measure(shape)
    finally:
        if not bench.clean:
            _bench.cache_clear()


# A topology is measured at several shapes in a row.
@lru_cache(maxsize=2)
def _bench(
    architecture_json: str, recipe_json: str | None, *, precision: str, device_kind: str, headless: bool
) -> Bench:
    architecture = Architecture.model_validate_json(architecture_json)
    if recipe_json is None:
        make = partial(_window, precision=precision, dimensions=architecture.dimensions, headless=headless)
    else:
        recipe = Recipe.model_validate_json(recipe_json)
        make = partial(training_step, architecture=architecture, recipe=recipe, precision=precision)
    blocked = recipe_json is None and device_kind == "cpu"
    return Bench(architecture, make, device_kind=device_kind, blocked=blocked)


def training_step(
    network: nn.Module,
    *,
    architecture: Architecture,
    recipe: Recipe,
    precision: str,
    device: torch.device | None = None,
) -> Step:
    """Return the step that training runs, with optimiser state and average in place; its target is empty."""
    from autoseg.networks.losses import Target, make_loss
    from autoseg.networks.step import make_average, make_optimizer, train_step

    loss = make_loss(recipe, _labels(architecture.output_channels), batch_dice=bool(recipe.batch_dice))
    optimizer = make_optimizer(network, recipe)
    fill_state(optimizer)
    average = make_average(network, recipe.ema_decay)

    def step(image: Tensor) -> Tensor:
        target = Target(torch.zeros(image.shape[0], *image.shape[2:], dtype=torch.int64, device=device))
        return train_step(
            network,
            loss,
            optimizer,
            image,
            target,
            precision=precision,
            clip=recipe.clip,
            ema=average,
            dimensions=architecture.dimensions,
        )

    return step


def _window(network: nn.Module, *, precision: str, dimensions: int, headless: bool) -> Step:
    network = without_head(network.eval()) if headless else network.eval()

    def step(image: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", _PRECISIONS[precision], enabled=precision != "float32"):
            logits: Tensor = network(image[:, :, 0] if dimensions == 2 else image)
            return logits

    return step


def fill_state(optimizer: Optimizer) -> None:
    """Let the optimiser make its state by a step of zero gradients, as after the first step of a training."""
    for group in optimizer.param_groups:
        for item in group["params"]:
            item.grad = torch.zeros_like(item)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _labels(channels: int) -> Labels:
    """Return labels that need this many output channels; their names play no part."""
    if channels == 1:
        structure = Structure(name="1", value=1, original=1)
        return Labels(structures=(structure,), regions=(Region(name="1", values=(1,), original=1),))
    structures = (Structure(name=str(value), value=value, original=value) for value in range(1, channels))
    return Labels(structures=tuple(structures))
