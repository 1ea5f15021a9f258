"""The image towers of CLIP, frozen: a ViT over slices resized to 224x224, its weights from the user's file.

Source:
    Radford et al. 2021, arXiv:2103.00020. The weights are the user's: OpenAI's names (`visual.*`) and those of
    `transformers` (`vision_model.*`) are understood, as safetensors.
"""

# B batch, S slices of the coarsest grid, C channel, D channels of a token, N token, Z Y X voxel

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoseg.networks import weights
from autoseg.networks.transformer import Attention
from autoseg.records.errors import DataError

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
QUICK_GELU = 1.702
TINY = 1e-6


@dataclass(frozen=True)
class Size:
    """Of a tower: voxels of a token's edge and of the image's, channels of a token, layers, heads."""

    patch: int
    image: int
    width: int
    depth: int
    heads: int


TOWERS: Mapping[str, Size] = MappingProxyType(
    {"clip_vit_b32": Size(32, 224, 768, 12, 12), "clip_vit_b16": Size(16, 224, 768, 12, 12)}
)


class Layer(nn.Module):
    """Attention and two linear layers, each behind a norm and added to what came in."""

    def __init__(self, size: Size):
        super().__init__()
        self.norm_1 = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.norm_2 = nn.LayerNorm(size.width)
        self.into = nn.Linear(size.width, 4 * size.width)
        self.out = nn.Linear(4 * size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of `x` (B, N, D)."""
        x = x + self.attention(self.norm_1(x))
        hidden = self.into(self.norm_2(x))
        return x + self.out(hidden * torch.sigmoid(QUICK_GELU * hidden))  # type: ignore[no-any-return]


class ImageTower(nn.Module):
    """What CLIP sees in an image, a vector a place; no weight of it is trained.

    Attributes:
        size: Of the tower.
    """

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        tokens = (size.image // size.patch) ** 2
        self.embed = nn.Conv2d(3, size.width, size.patch, size.patch, bias=False)
        self.whole = nn.Parameter(size.width**-0.5 * torch.randn(size.width))
        self.positions = nn.Parameter(size.width**-0.5 * torch.randn(tokens + 1, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.depth))
        self.norm_out = nn.LayerNorm(size.width)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, D, rows, columns) of normalised images (B, 3, size, size): the last layer's tokens, normalised.

        CLIP itself goes on with the first token alone, which stands for the whole image; here the others, which stand
        for a place each, are what a segmentation wants.
        """
        places = self.embed(images)
        tokens = places.flatten(2).transpose(1, 2)
        whole = self.whole.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = self.norm_in(torch.cat((whole, tokens), 1) + self.positions)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm_out(tokens)[:, 1:].transpose(1, 2).reshape(places.shape)  # type: ignore[no-any-return]

    @torch.no_grad()
    def slices(self, x: Tensor, count: int) -> Tensor:
        """Return (B, D, S, rows, columns) of `count` evenly spaced slices of x (B, C, Z, Y, X).

        A slice is the mean of its channels, stretched to 0 to 1 between its darkest and brightest voxel, resized, and
        shown as the three colours.
        """
        batch, depth = x.shape[0], x.shape[2]
        chosen = (2 * torch.arange(count, device=x.device) + 1) * depth // (2 * count)
        grey = x.float().mean(1).index_select(1, chosen).flatten(0, 1)[:, None]
        low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
        grey = (grey - low) / (high - low).clamp(min=TINY)
        grey = F.interpolate(grey, (self.size.image,) * 2, mode="bilinear", align_corners=False, antialias=True)
        found = self((grey - self.get_buffer("mean")) / self.get_buffer("deviation"))
        return found.reshape(batch, count, *found.shape[1:]).transpose(1, 2)  # type: ignore[no-any-return]


class Fusion(nn.Module):
    """Adds what the tower sees to the coarsest features, through a linear map that begins at zero.

    A run so begins as the network without the tower does, and takes of it what helps.
    """

    def __init__(self, dimensions: int, size: Size, channels: int):
        super().__init__()
        self.dimensions = dimensions
        self.tower = ImageTower(size)
        self.project = nn.Linear(size.width, channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, deepest: Tensor) -> Tensor:
        """Return the shape of `deepest` (B, C', ...), the features of x (B, C, Z, Y, X), both without Z in 2D."""
        if self.dimensions == 2:
            x = x[:, :, None]
        shape = (1, *deepest.shape[2:])[-3:]
        seen = self.tower.slices(x, shape[0])
        batch, width, count, *places = seen.shape
        flat = seen.transpose(1, 2).reshape(batch * count, width, *places)
        flat = F.interpolate(flat.float(), shape[1:], mode="bilinear", align_corners=False)
        seen = flat.reshape(batch, count, width, *shape[1:]).movedim(2, -1)
        added = self.project(seen).movedim(-1, 1)
        return deepest + (added[:, :, 0] if self.dimensions == 2 else added)


def read_weights(tower: ImageTower, path: Path) -> None:
    """Copy the weights of a file into a tower, whichever of the two ways they are named in.

    Raises:
        DataError: The file is missing or damaged, holds no image tower, or one of another size.
    """
    tensors, _ = weights.load(path)
    if "visual.conv1.weight" in tensors:
        found = _of_openai(tensors, tower.size.depth)
    elif "vision_model.embeddings.patch_embedding.weight" in tensors:
        found = _of_transformers(tensors, tower.size.depth)
    else:
        raise DataError(
            "holds no image tower of CLIP",
            file=path,
            fix="Give the safetensors file of ViT-B/32 or ViT-B/16 with the names of OpenAI or of transformers.",
            code="no_tower",
        )
    weights.load_into(tower, {name: item.float() for name, item in found.items()}, file=path)


_OUTSIDE_OPENAI = {
    "embed.weight": "visual.conv1.weight",
    "whole": "visual.class_embedding",
    "positions": "visual.positional_embedding",
    "norm_in.weight": "visual.ln_pre.weight",
    "norm_in.bias": "visual.ln_pre.bias",
    "norm_out.weight": "visual.ln_post.weight",
    "norm_out.bias": "visual.ln_post.bias",
}
_OUTSIDE_TRANSFORMERS = {
    "embed.weight": "vision_model.embeddings.patch_embedding.weight",
    "whole": "vision_model.embeddings.class_embedding",
    "positions": "vision_model.embeddings.position_embedding.weight",
    "norm_in.weight": "vision_model.pre_layrnorm.weight",  # spelt so there
    "norm_in.bias": "vision_model.pre_layrnorm.bias",
    "norm_out.weight": "vision_model.post_layernorm.weight",
    "norm_out.bias": "vision_model.post_layernorm.bias",
}
_PARTS_OPENAI = {
    "norm_1": "ln_1",
    "norm_2": "ln_2",
    "attention.out": "attn.out_proj",
    "into": "mlp.c_fc",
    "out": "mlp.c_proj",
}
_PARTS_TRANSFORMERS = {
    "norm_1": "layer_norm1",
    "norm_2": "layer_norm2",
    "attention.out": "self_attn.out_proj",
    "into": "mlp.fc1",
    "out": "mlp.fc2",
}


def _of_openai(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    found = _outside(tensors, _OUTSIDE_OPENAI)
    for number in range(depth):
        there = f"visual.transformer.resblocks.{number}."
        found |= _layer(tensors, number, there, _PARTS_OPENAI)
        for kind in ("weight", "bias"):
            name = f"{there}attn.in_proj_{kind}"
            if name in tensors:
                found[f"layers.{number}.attention.qkv.{kind}"] = tensors[name]
    return found


def _of_transformers(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    found = _outside(tensors, _OUTSIDE_TRANSFORMERS)
    for number in range(depth):
        there = f"vision_model.encoder.layers.{number}."
        found |= _layer(tensors, number, there, _PARTS_TRANSFORMERS)
        for kind in ("weight", "bias"):
            names = [f"{there}self_attn.{part}_proj.{kind}" for part in "qkv"]
            if all(name in tensors for name in names):
                found[f"layers.{number}.attention.qkv.{kind}"] = torch.cat([tensors[name] for name in names])
    return found


def _outside(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {own: tensors[name] for own, name in names.items() if name in tensors}


def _layer(tensors: Mapping[str, Tensor], number: int, there: str, parts: Mapping[str, str]) -> dict[str, Tensor]:
    return {
        f"layers.{number}.{own}.{kind}": tensors[f"{there}{name}.{kind}"]
        for own, name in parts.items()
        for kind in ("weight", "bias")
        if f"{there}{name}.{kind}" in tensors
    }
