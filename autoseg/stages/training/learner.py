"""Everything of a run that changes from step to step: weights, their average, optimiser, gradient scaler."""

# B batch, C channel, Z Y X voxel

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoseg.compute.ranks import Ranks
from autoseg.networks import catalog, losses, step, text_head
from autoseg.records.model import Pretrained
from autoseg.records.preset import Recipe
from autoseg.stages.training import pretrained
from autoseg.stages.training.feeding import Batch
from autoseg.stages.training.request import Request, stable_seed


@dataclass(frozen=True)
class Learner:
    """A network in training; the tensors inside change in place.

    Attributes:
        precision: Of the forward pass.
        memory_format: Of weights and images: contiguous, or channels last in 2D or 3D.
        pretrained: What the weights started from; None where they were drawn.
        seed: Of what is random inside the network (dropout), keyed by the step.
        ranks: Those that share each batch; None where this process has all of it.
    """

    network: nn.Module
    loss: Callable[..., Tensor]
    optimizer: Optimizer
    average: step.Average | None
    scaler: torch.amp.GradScaler | None
    recipe: Recipe
    dimensions: int
    precision: str
    memory_format: torch.memory_format
    seed: int
    pretrained: Pretrained | None = None
    ranks: Ranks | None = None


def build(request: Request, *, precision: str, memory_format: str, ranks: Ranks | None = None) -> Learner:
    """Return the learner before its first step; equal requests give equal weights, on every rank."""
    configuration = request.configuration
    seed = stable_seed(request.model.seed, configuration.digest())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = catalog.build(configuration.architecture)
    text_head.read_encoder(network, configuration.architecture)
    layout = _layout(memory_format, configuration.dimensions)
    taken = None
    if request.given is not None:
        taken = pretrained.put(request.given, network, configuration, request.labels)
    network = network.to(request.device)
    network = network.to(memory_format=layout).train()  # type: ignore[call-overload]
    recipe = configuration.recipe
    return Learner(
        network=network,
        loss=losses.make_loss(
            recipe,
            request.labels,
            batch_dice=configuration.batch_dice,
            weights=request.class_weights or None,
            reduce=None if ranks is None else ranks.sum,
            ranks=1 if ranks is None else ranks.size,
        ),
        optimizer=step.make_optimizer(
            network, recipe, pretrained.groups(network, configuration, taken, device=request.device)
        ),
        average=step.make_average(network, recipe.ema_decay),
        scaler=step.make_scaler(request.device, precision),
        recipe=recipe,
        dimensions=configuration.dimensions,
        precision=precision,
        memory_format=layout,
        seed=seed,
        pretrained=taken,
        ranks=ranks,
    )


def advance(learner: Learner, batch: Batch, *, number: int, rate: float, frozen: bool = False) -> Tensor:
    """Do step `number` (from 0) at learning rate `rate` and return its loss, a detached scalar on the device.

    With `frozen` the weights that were loaded stay as they are.
    """
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0 if frozen and group["loaded"] else rate * group["scale"]
    ranks = learner.ranks
    # Each rank drops other units: the samples of one batch would otherwise share them in groups.
    parts = (number,) if ranks is None or ranks.rank == 0 else (number, ranks.rank)
    torch.manual_seed(stable_seed(learner.seed, *parts))
    return step.train_step(
        learner.network,
        learner.loss,
        learner.optimizer,
        _laid_out(batch.image, learner.memory_format),
        losses.Target(batch.labels, batch.annotated),
        precision=learner.precision,
        clip=learner.recipe.clip,
        scaler=learner.scaler,
        ema=_warmed(learner.average, number),
        dimensions=learner.dimensions,
        average=None if ranks is None else ranks.average,
    )


def weights(learner: Learner) -> dict[str, Tensor]:
    """Return the tensors that predict: the average where there is one, and what is not averaged as it is."""
    tensors = dict(learner.network.state_dict())
    if learner.average is not None:
        trained = [name for name, item in learner.network.named_parameters() if item.requires_grad]
        tensors |= dict(zip(trained, learner.average.tensors, strict=True))
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def state(learner: Learner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the whole state as named CPU tensors, and the plain numbers beside them."""
    tensors = {f"network.{name}": tensor for name, tensor in learner.network.state_dict().items()}
    if learner.average is not None:
        tensors |= {f"average.{index}": tensor for index, tensor in enumerate(learner.average.tensors)}
    for index, entries in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": item for key, item in entries.items() if isinstance(item, Tensor)}
    plain = {} if learner.scaler is None else learner.scaler.state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, plain


def restore(learner: Learner, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Put a state back, in the memory layout of the learner.

    Raises:
        KeyError, RuntimeError: The state is of another network or optimiser.
    """
    network = {name.removeprefix("network."): item for name, item in tensors.items() if name.startswith("network.")}
    learner.network.load_state_dict(network)
    if learner.average is not None:
        for index, tensor in enumerate(learner.average.tensors):
            tensor.copy_(tensors[f"average.{index}"])
    fresh = learner.optimizer.state_dict()
    parameters = [item for group in learner.optimizer.param_groups for item in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            entries.setdefault(int(number), {})[key] = _like(tensor, parameters[int(number)])
    learner.optimizer.load_state_dict({"state": entries, "param_groups": fresh["param_groups"]})
    if learner.scaler is not None:
        learner.scaler.load_state_dict(plain)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Give a moment the strides of its weight: other strides take other kernels, with other last digits."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def _warmed(average: step.Average | None, number: int) -> step.Average | None:
    """Forget the random start sooner: an average of ten steps must not hold 99 % of the initial weights."""
    if average is None:
        return None
    return replace(average, decay=min(average.decay, (1 + number) / (10 + number)))


def _layout(name: str, dimensions: int) -> torch.memory_format:
    if name == "contiguous":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d


def _laid_out(image: Tensor, layout: torch.memory_format) -> Tensor:
    """Lay out (B, C, Z, Y, X); with z = 1 the 3D layout is the 2D one once the axis is taken away."""
    if layout is torch.channels_last:
        return image.contiguous(memory_format=torch.channels_last_3d)
    return image.contiguous(memory_format=layout)
