"""What the catalog knows of one kind of network, and what all networks of tokens have in common in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from autoseg.networks.arguments import shape_of
from autoseg.records.configuration import Architecture
from autoseg.records.geometry import Shape

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class Kind:
    """What the catalog knows of one network.

    Attributes:
        build: Architecture -> the network, weights freshly drawn.
        divisor: Architecture -> what each patch axis (z, y, x) must be a multiple of.
        min_shape: Architecture -> the smallest patch (z, y, x).
        grown: (name -> tensor of a network that differs in its kernels alone, the network that is to have them) -> the
            same, smaller kernels brought to the network's size; None where kernels of another size begin anew.
    """

    build: Callable[[Architecture], nn.Module]
    divisor: Callable[[Architecture], Shape]
    min_shape: Callable[[Architecture], Shape]
    grown: Callable[[Mapping[str, Tensor], nn.Module], dict[str, Tensor]] | None = None


def of_tokens(
    network: Callable[[Architecture, Arguments], nn.Module],
    read: Callable[[Architecture], Arguments],
    *,
    token: Callable[[Arguments], Sequence[int]],
    fewest: int = 1,
    resizes: bool = False,
) -> Kind:
    """Return the kind of a network whose patch is made of tokens; z is 1 in 2D.

    Each of the three raises a UsageError where the arguments do not describe such a network; it names the key.

    Args:
        network: (Architecture, its checked arguments) -> the network.
        read: Architecture -> its checked arguments.
        token: Voxels of the coarsest token along each axis.
        fewest: Tokens along an axis; 2 where a norm over a single one would leave nothing.
        resizes: Whether the network takes patches of any size from there on.
    """

    def divisor(architecture: Architecture) -> Shape:
        shape = shape_of(token(read(architecture)))
        return (1, 1, 1) if resizes else shape

    def min_shape(architecture: Architecture) -> Shape:
        z, y, x = (size if size == 1 else fewest * size for size in shape_of(token(read(architecture))))
        return z, y, x

    return Kind(
        build=lambda architecture: network(architecture, read(architecture)), divisor=divisor, min_shape=min_shape
    )
