"""Weights of one network put into another of other channels, labels or patch: what fits is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.networks import catalog
from autoseg.records.configuration import Architecture
from autoseg.records.errors import DataError

_NAMED_AT_MOST = 4


@dataclass(frozen=True)
class Transfer:
    """What became of each tensor of the network, by name.

    Attributes:
        loaded: Copied as it was.
        adapted: Of the input stem, brought to another number of channels.
        grown: Kernels that were smaller, interpolated (`catalog.grown`).
        new: Drawn at random: heads of other labels, and what is not there or of another shape.
        unused: There, but of no use here.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    grown: tuple[str, ...] = ()

    def line(self) -> str:
        """Return one line for people."""
        total = len(self.loaded) + len(self.adapted) + len(self.grown) + len(self.new)
        parts = [f"{len(self.loaded)} of {total} tensors loaded"]
        for names, what in (
            (self.adapted, "adapted to other channels"),
            (self.grown, "grown from smaller kernels"),
            (self.new, "new"),
            (self.unused, "unused"),
        ):
            if names:
                parts.append(f"{len(names)} {what}: {_some(names)}")
        return "; ".join(parts)


def load_what_fits(
    network: nn.Module, tensors: Mapping[str, Tensor], architecture: Architecture, *, keep_heads: bool, file: object
) -> Transfer:
    """Copy into `network` what fits of `tensors`, and return what became of everything.

    The input stem of another number of channels gets the mean over the old channels in each new one, scaled so that
    equal channels give the sum that they gave before. Heads stay as they were drawn unless the labels are the same.
    Smaller kernels grow where the network's kind knows how (MedNeXt's UpKern).

    Args:
        network: Of `architecture`; changed in place.
        tensors: Name -> tensor, as `state_dict` names them.
        architecture: Tells which tensors depend on the channels and on the labels.
        keep_heads: Whether the labels are the same.
        file: Where the tensors come from, for the message.

    Raises:
        DataError: Nothing fits.
    """
    own = network.state_dict()
    stem = _depending(architecture, own, "input_channels")
    heads = _depending(architecture, own, "output_channels")
    fitting = catalog.grown(architecture, tensors, network)
    loaded: list[str] = []
    grown: list[str] = []
    adapted, new = [], []
    with torch.no_grad():
        for name, tensor in own.items():
            there = fitting.get(name)
            if there is None or (name in heads and not keep_heads):
                new.append(name)
            elif there.shape == tensor.shape:
                tensor.copy_(there)
                (loaded if there is tensors[name] else grown).append(name)
            elif name in stem and there.dim() == tensor.dim() and _same_but_channels(there, tensor):
                mean = there.float().mean(1, keepdim=True) * (there.shape[1] / tensor.shape[1])
                tensor.copy_(mean.expand_as(tensor))
                adapted.append(name)
            else:
                new.append(name)
    # Biases and norms have the same shapes in networks that have nothing else in common.
    if not any(own[name].dim() > 1 for name in (*loaded, *adapted, *grown)):
        raise DataError(
            "nothing of these weights fits the network",
            file=file,
            fix=f"Give those of a {architecture.kind} with the same dimensions, features and kernels.",
            code="nothing_fits",
        )
    unused = tuple(name for name in tensors if name not in {*loaded, *adapted, *grown})
    return Transfer(tuple(loaded), tuple(adapted), tuple(new), unused, tuple(grown))


def layer_ranks(network: nn.Module, image: Tensor) -> dict[str, float]:
    """Return for each trainable parameter where its layer comes in a forward pass: 0 the first, 1 the last.

    Args:
        network: In training mode; run once without gradients.
        image: A batch that it takes, (B, C, Z, Y, X) or (B, C, Y, X); its content does not matter.
    """
    owners = {id(item): module for module in network.modules() for item in module.parameters(recurse=False)}
    order: dict[int, int] = {}

    def note(module: nn.Module, _: object) -> None:
        order.setdefault(id(module), len(order))

    handles = [module.register_forward_pre_hook(note) for module in set(owners.values())]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    last = max(1, len(order) - 1)
    trained = [(name, item) for name, item in network.named_parameters() if item.requires_grad]
    # A layer that was not called by itself (its weight is used by its owner's parent) counts as the last.
    return {name: order.get(id(owners[id(item)]), last) / last for name, item in trained}


def _depending(architecture: Architecture, own: Mapping[str, Tensor], key: str) -> frozenset[str]:
    """Return the tensors whose shape follows from `input_channels` or `output_channels`."""
    changed = architecture.model_copy(update={key: getattr(architecture, key) + 1})
    rows = architecture.arguments.get("vectors")
    if key == "output_channels" and isinstance(rows, list):  # one a class
        changed = changed.model_copy(update={"arguments": {**architecture.arguments, "vectors": [*rows, rows[-1]]}})
    other = catalog.outline(changed).state_dict()
    return frozenset(name for name, tensor in own.items() if name in other and other[name].shape != tensor.shape)


def _same_but_channels(there: Tensor, here: Tensor) -> bool:
    return here.dim() > 1 and there.shape[:1] == here.shape[:1] and there.shape[2:] == here.shape[2:]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
