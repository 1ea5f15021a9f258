"""A U-Net whose classes are given by vectors (of a text model, say), by one of two heads.

Arguments: those of `unet` (its module describes them), and::

    {"head": "controller",    or "cosine"; may be left out: controller
     "backbone": "unet",      or "residual_unet", "attention_unet"; may be left out: unet
     "embedding": 8,          channels of a voxel that the head sees; may be left out: 8, with cosine 32
     "vectors": [[0.1, ...],  one a class, in the order of the output channels; one fewer: the first class
                 [...]],      (background) learns its own; may be left out: all are learned
     "vector_width": 64,      length of learned vectors, only where none are given; may be left out: 64
     "image_encoder": "clip_vit_b32",          or "clip_vit_b16", frozen; may be left out: none
     "image_encoder_file": "vit.safetensors"}  its weights, read when training begins

Given vectors are not trained, and neither is the image encoder. They lie in the model file beside the weights.
"""

# B batch, C channel, E channels of a voxel's embedding, K class, V length of a class vector, N voxels in one row

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks import clip_tower, staged, unet
from autoseg.networks.arguments import nearest, number, wrong
from autoseg.networks.blocks import checkpointed
from autoseg.networks.clip_tower import Fusion
from autoseg.records.configuration import Architecture

EMBEDDINGS: Mapping[str, int] = {"controller": 8, "cosine": 32}
VECTOR_WIDTH = 64
GLOBAL_WIDTH = 256
# Where contrastive training starts and ends (Radford et al. 2021).
START_TEMPERATURE, LOWEST_TEMPERATURE = 0.07, 0.01
# Classes whose hidden layers are held at once where activations are computed again.
CLASSES_AT_ONCE = 8

_OWN_KEYS = ("head", "backbone", "embedding", "vectors", "vector_width", "image_encoder", "image_encoder_file")
_BACKBONES = ("unet", "residual_unet", "attention_unet")


@dataclass(frozen=True)
class Arguments:
    """The arguments beside the backbone's; `vectors` and the image encoder's name and file are empty for none."""

    head: str
    embedding: int
    vectors: tuple[tuple[float, ...], ...]
    vector_width: int
    image_encoder: str = ""
    image_encoder_file: str = ""


class ClassVectors(nn.Module):
    """One vector a class: given ones are kept, missing ones are learned (background's, or all)."""

    def __init__(self, classes: int, arguments: Arguments):
        super().__init__()
        given = torch.tensor(arguments.vectors).reshape(len(arguments.vectors), arguments.vector_width)
        self.register_buffer("given", given)
        learned = classes - len(arguments.vectors)
        deviation = arguments.vector_width**-0.5
        self.learned = nn.Parameter(deviation * torch.randn(learned, arguments.vector_width)) if learned else None

    def forward(self) -> Tensor:
        """Return (K, V)."""
        given: Tensor = self.get_buffer("given")
        return given if self.learned is None else torch.cat((self.learned, given))


class Controller(nn.Module):
    """Writes for each class three 1x1 convolutions, from its vector and from what the whole patch shows.

    Source:
        Liu et al. 2023, arXiv:2301.00785.
    """

    def __init__(self, deepest: int, arguments: Arguments):
        super().__init__()
        self.hidden = arguments.embedding
        self.whole = nn.Linear(deepest, GLOBAL_WIDTH)
        self.each = nn.Linear(arguments.vector_width, GLOBAL_WIDTH)
        self.write = nn.Linear(2 * GLOBAL_WIDTH, sum(_sizes(self.hidden)))

    def forward(self, deepest: Tensor, vectors: Tensor) -> Tensor:
        """Return the numbers of each class' convolutions.

        Args:
            deepest: (B, C, ...), the backbone's coarsest features.
            vectors: (K, V).

        Returns:
            (B, K, numbers).
        """
        whole = F.relu(self.whole(deepest.flatten(2).mean(2)))
        each = F.relu(self.each(vectors))
        both = torch.cat(
            (whole[:, None].expand(-1, len(each), -1), each[None].expand(whole.shape[0], -1, -1).to(whole.dtype)), 2
        )
        return self.write(both)  # type: ignore[no-any-return]


class TextGuidedUNet(nn.Module):
    """A U-Net that gives every voxel an embedding, and a head that compares it with the class vectors."""

    def __init__(self, architecture: Architecture, arguments: Arguments):
        super().__init__()
        self.checkpointing = architecture.checkpointing
        backbone = _backbone(architecture, arguments.embedding)
        self.backbone = unet.build(backbone)
        self.vectors = ClassVectors(architecture.output_channels, arguments)
        self.hidden = arguments.embedding
        self.seen: Fusion | None = None
        if arguments.image_encoder:
            tower = clip_tower.TOWERS[arguments.image_encoder]
            self.seen = Fusion(architecture.dimensions, tower, staged.read(backbone).features[-1])
        self.controller: Controller | None = None
        if arguments.head == "controller":
            self.controller = Controller(staged.read(backbone).features[-1], arguments)
        else:
            self.project = nn.Linear(arguments.vector_width, arguments.embedding)
            self.log_scale = nn.Parameter(torch.full((), -math.log(START_TEMPERATURE)))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Args:
            x: (B, C, Z, Y, X), or (B, C, Y, X) in 2D; each axis a multiple of the product of the backbone's strides.

        Returns:
            As the backbone's: (B, K, ...), or in training with deep supervision a list, finest first.
        """
        features = self.backbone.encode(x)
        if self.seen is not None:
            features[-1] = self.seen(x, features[-1])
        deepest = features[-1]
        embeddings = self.backbone.decode(features)
        if self.controller is None:
            head = partial(self._cosine, vectors=self.project(self.vectors()))
        else:
            head = partial(self._generated, numbers=self.controller(deepest, self.vectors()))
        return [head(item) for item in embeddings] if isinstance(embeddings, list) else head(embeddings)

    def _cosine(self, embedding: Tensor, *, vectors: Tensor) -> Tensor:
        """Return the cosine between each voxel's embedding and each class, over a learned temperature."""
        voxels = F.normalize(embedding.flatten(2), dim=1)
        scale = self.log_scale.clamp(max=-math.log(LOWEST_TEMPERATURE)).exp()
        logits = scale * torch.matmul(F.normalize(vectors, dim=1).to(voxels.dtype), voxels)
        return logits.reshape(embedding.shape[0], len(vectors), *embedding.shape[2:])

    def _generated(self, embedding: Tensor, *, numbers: Tensor) -> Tensor:
        """Return each class' own three layers of the embeddings."""
        voxels = F.leaky_relu(embedding.flatten(2))
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        if again:
            parts = [checkpointed(_three_layers, voxels, part) for part in numbers.split(CLASSES_AT_ONCE, 1)]
        else:
            parts = [_three_layers(voxels, numbers)]
        return torch.cat(parts, 1).reshape(embedding.shape[0], -1, *embedding.shape[2:])


def build(architecture: Architecture) -> TextGuidedUNet:
    """Return the network with freshly drawn weights.

    Raises:
        UsageError: The arguments do not describe a text-guided U-Net; the message names the key.
    """
    return TextGuidedUNet(architecture, read(architecture))


def read(architecture: Architecture) -> Arguments:
    """Return the checked arguments beside those of the backbone.

    Raises:
        UsageError: A key is missing, unknown, or not what it must be; the message names it.
    """
    staged.read(architecture, optional=_OWN_KEYS)
    head = staged.choice(architecture, "head", tuple(EMBEDDINGS))
    vectors = _vectors(architecture)
    if vectors and "vector_width" in architecture.arguments:
        raise wrong(architecture, "vector_width", "is given beside 'vectors', which have a length already")
    return Arguments(
        head=head,
        embedding=number(architecture, "embedding", EMBEDDINGS[head]),
        vectors=vectors,
        vector_width=len(vectors[0]) if vectors else number(architecture, "vector_width", VECTOR_WIDTH),
        image_encoder=_encoder(architecture),
        image_encoder_file=_encoder_file(architecture),
    )


def read_encoder(network: nn.Module, architecture: Architecture) -> None:
    """Copy the image encoder's weights from the file that the arguments name; does nothing where there is none.

    Called when training begins: from then on they travel with the network's own.

    Raises:
        DataError: The file is missing, damaged, or of another encoder.
    """
    if isinstance(network, TextGuidedUNet) and network.seen is not None:
        clip_tower.read_weights(network.seen.tower, Path(read(architecture).image_encoder_file))


def _encoder(architecture: Architecture) -> str:
    name = architecture.arguments.get("image_encoder", "")
    if name == "":
        return ""
    if name not in clip_tower.TOWERS:
        fix = nearest(str(name), tuple(clip_tower.TOWERS))
        raise wrong(architecture, "image_encoder", f"is {name!r}", fix=fix)
    return str(name)


def _encoder_file(architecture: Architecture) -> str:
    file = architecture.arguments.get("image_encoder_file", "")
    given = "image_encoder" in architecture.arguments
    if not isinstance(file, str) or bool(file) != given:
        raise wrong(
            architecture, "image_encoder_file", "must be the path of the encoder's weights, beside 'image_encoder'"
        )
    return file


def _vectors(architecture: Architecture) -> tuple[tuple[float, ...], ...]:
    rows = architecture.arguments.get("vectors")
    if rows is None:
        return ()
    if not isinstance(rows, list) or not rows or not all(_is_vector(row) for row in rows):
        raise wrong(architecture, "vectors", "is not a list of lists of finite numbers, one a class")
    lengths = sorted({len(row) for row in rows})  # type: ignore[arg-type]
    if len(lengths) > 1:
        raise wrong(architecture, "vectors", f"has rows of {lengths[0]} and of {lengths[-1]} numbers")
    classes = architecture.output_channels
    if len(rows) not in (classes, classes - 1):
        raise wrong(architecture, "vectors", f"has {len(rows)} rows, not {classes} (or {classes - 1}, no background)")
    return tuple(tuple(map(float, row)) for row in rows)  # type: ignore[arg-type]


def _is_vector(row: JsonValue) -> bool:
    return (
        isinstance(row, list)
        and bool(row)
        and all(isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item) for item in row)
    )


def _backbone(architecture: Architecture, embedding: int) -> Architecture:
    """Return the U-Net that puts out `embedding` channels instead of classes."""
    arguments = architecture.arguments
    return architecture.model_copy(
        update={
            "kind": staged.choice(architecture, "backbone", _BACKBONES),
            "output_channels": embedding,
            "arguments": {key: arguments[key] for key in staged.KEYS},
        }
    )


def _sizes(hidden: int) -> tuple[int, ...]:
    """Return how many numbers three generated layers take: weights and shifts, one layer after the other."""
    return hidden * hidden, hidden, hidden * hidden, hidden, hidden, 1


def _three_layers(voxels: Tensor, numbers: Tensor) -> Tensor:
    """Return (B, K, N) of voxels (B, E, N) and the numbers of each class' layers (B, K, numbers)."""
    batch, classes, hidden = voxels.shape[0], numbers.shape[1], voxels.shape[1]
    first, first_shift, second, second_shift, third, third_shift = numbers.split(_sizes(hidden), 2)
    x = torch.matmul(first.reshape(batch, classes * hidden, hidden), voxels).reshape(batch, classes, hidden, -1)
    x = F.relu(x + first_shift[..., None])
    x = F.relu(torch.matmul(second.reshape(batch, classes, hidden, hidden), x) + second_shift[..., None])
    return (torch.matmul(third[:, :, None], x) + third_shift[..., None]).squeeze(2)
