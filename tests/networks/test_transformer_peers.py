"""The same weights in MONAI's UNETR and SwinUNETR give the same logits.

Where the designs differ, so that sizes and switches below are chosen to miss it: MONAI takes UNETR's skips one layer
later than the paper (`skip_layers` below follows it); its SwinUNETR lets tokens see padding, reads a clipped window's
biases from the wrong rows of the table, and joins tokens in another order in 2D (`give` sorts them) and with its first
kind of merging.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autoseg.networks import catalog, unetr
from autoseg.records.configuration import Architecture

pytestmark = pytest.mark.peer

UNETR_NAMES = (
    (r"vit\.patch_embedding\.patch_embeddings\.", "embed."),
    (r"vit\.patch_embedding\.position_embeddings", "positions.vectors"),
    (r"vit\.blocks\.(\d+)\.", r"layers.\1."),
    (r"vit\.norm\.", "norm."),
    (r"encoder1\.layer\.", "image."),
    (r"encoder(\d)\.transp_conv_init\.conv\.", lambda found: f"skips.{int(found[1]) - 2}.0."),
    (r"encoder(\d)\.blocks\.(\d)\.0\.conv\.", lambda found: f"skips.{int(found[1]) - 2}.{2 * int(found[2]) + 1}."),
    (r"encoder(\d)\.blocks\.(\d)\.1\.", lambda found: f"skips.{int(found[1]) - 2}.{2 * int(found[2]) + 2}."),
    (r"decoder(\d)\.", lambda found: f"decoder.{int(found[1]) - 2}."),
)
SWIN_NAMES = (
    (r"swinViT\.patch_embed\.proj\.", "embed."),
    (r"swinViT\.layers(\d)\.0\.blocks\.", lambda found: f"stages.{int(found[1]) - 1}."),
    (r"swinViT\.layers(\d)\.0\.downsample\.", lambda found: f"mergings.{int(found[1]) - 1}."),
    (r"attn\.relative_position_bias_table", "table"),
    (r"reduction\.", "reduce."),
    (r"encoder1\.layer\.", "image."),
    (r"encoder10\.layer\.", "refine.5."),
    (r"encoder(\d)\.layer\.", lambda found: f"refine.{int(found[1]) - 1}."),
    (r"decoder(\d)\.", lambda found: f"decoder.{int(found[1]) - 1}."),
)
SHARED_NAMES = (
    (r"norm1\.(?=\w+$)", "first_norm."),
    (r"norm2\.(?=\w+$)", "second_norm."),
    (r"attn\.qkv\.", "attention.qkv."),
    (r"attn\.(out_proj|proj)\.", "attention.out."),
    (r"mlp\.linear1\.", "mlp.into."),
    (r"mlp\.linear2\.", "mlp.out."),
    (r"transp_conv\.conv\.", "up."),
    (r"conv_block\.", "mix."),
    (r"out\.conv\.conv\.", "head."),
)
# Inside a residual block, whose norms would otherwise look like a transformer layer's.
BLOCK_NAMES = (
    (r"conv1\.conv\.", "first.conv."),
    (r"conv2\.conv\.", "second.conv."),
    (r"conv3\.conv\.", "shortcut.0."),
    (r"first_norm\.", "first.norm."),
    (r"second_norm\.", "second.norm."),
    (r"norm3\.", "shortcut.1."),
)


def renamed(name: str, names: tuple) -> str:
    for pattern, new in (*names, *SHARED_NAMES):
        name = re.sub(pattern, new, name)
    if re.match(r"image|skips|refine|decoder", name):
        for pattern, new in BLOCK_NAMES:
            name = re.sub(pattern, new, name)
    return name


def from_peer(kind: str, shape: tuple[int, ...], folder: Path) -> dict[str, torch.Tensor]:
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has monai")
    script = Path(__file__).with_name("peer_transformers.py")
    command = [peers, script, kind, "x".join(map(str, shape)), folder / "peer.safetensors"]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    return load_file(folder / "peer.safetensors")


def give(network: torch.nn.Module, tensors: dict[str, torch.Tensor], names: tuple) -> None:
    """Copy the peer's weights; what only this network has is the shift of convolutions, which is zero."""
    own = dict(network.named_parameters())
    given = {renamed(name, names): item for name, item in tensors.items() if "cross_attn" not in name}
    assert [name for name in given if name not in own] == []
    extra = [name for name in own if name not in given]
    assert all(name.endswith("bias") and not own[name].any() for name in extra), extra
    with torch.no_grad():
        for name, item in given.items():
            if name == "positions.vectors":
                item = item.transpose(1, 2).reshape(own[name].shape)
            if name.startswith("mergings") and network.get_parameter("embed.weight").ndim == 4:
                # In 2D MONAI joins tokens with y running fastest.
                item = item.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].flatten(-2)
            own[name].copy_(item)


def compare(architecture: Architecture, shape: tuple[int, ...], folder: Path, *, names: tuple) -> None:
    tensors = from_peer(architecture.kind, shape, folder)
    x, y = tensors.pop("x"), tensors.pop("y")
    network = catalog.build(architecture).eval()
    if isinstance(network, unetr.Unetr):
        network.skip_layers = tuple(layer + 1 for layer in network.skip_layers)
    give(network, tensors, names)
    with torch.no_grad():
        torch.testing.assert_close(network(x), y, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("shape", [(32, 48), (32, 16, 48)])
def test_unetr_is_monais(shape: tuple[int, ...], tmp_path: Path) -> None:
    axes = len(shape)
    arguments = {
        "patch": [16] * axes,
        "grid": [size // 16 for size in shape],
        "hidden": 12,
        "depth": 12,
        "heads": 2,
        "features": 4,
    }
    architecture = Architecture(kind="unetr", dimensions=axes, input_channels=2, output_channels=3, arguments=arguments)
    compare(architecture, shape, tmp_path, names=UNETR_NAMES)


@pytest.mark.parametrize("shape", [(64, 64), (64, 32, 32)])
def test_swin_unetr_is_monais(shape: tuple[int, ...], tmp_path: Path) -> None:
    axes = len(shape)
    arguments = {
        "features": 12,
        "patch": [2] * axes,
        "mergings": [[2] * axes] * 4,
        "depths": [2] * 4,
        "heads": [2] * 4,
        "window": [2] * axes,
    }
    architecture = Architecture(
        kind="swin_unetr", dimensions=axes, input_channels=2, output_channels=3, arguments=arguments
    )
    compare(architecture, shape, tmp_path, names=SWIN_NAMES)
