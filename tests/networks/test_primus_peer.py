"""The same weights in the transformer of the authors' Primus give the same tokens.

Where the designs differ: theirs turns neighbouring channels of a head against each other, ours channel i and i + D/2
(`halves` sorts them), keys have no shift there, and the tokeniser of dynamic-network-architectures is the first
version's, one linear map, where ours is the second version's; its decoder is the same but for the choice of channels.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from autoseg.networks import catalog
from autoseg.networks.transformer import rotary_angles, to_grid, to_sequence
from autoseg.records.configuration import Architecture

ARGUMENTS = {"width": 24, "depth": 2, "heads": 2, "grid": [2, 3, 4]}
NAMES = {
    "norm1": "first_norm",
    "norm2": "second_norm",
    "attn.norm": "attention.norm",
    "attn.proj": "attention.out",
    "mlp.fc1_g": "mlp.gate",
    "mlp.fc1_x": "mlp.into",
    "mlp.norm": "mlp.norm",
    "mlp.fc2": "mlp.out",
}


def halves(rows: Tensor) -> Tensor:
    """Return the rows of a query's or key's weight with the first of each pair of channels before all second ones."""
    return rows.unflatten(0, (ARGUMENTS["heads"], -1, 2)).transpose(1, 2).flatten(0, 2)


@pytest.mark.peer
def test_the_transformer_is_the_authors(tmp_path: Path) -> None:
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has dynamic-network-architectures")
    script, file = Path(__file__).with_name("peer_primus.py"), tmp_path / "peer.npz"
    subprocess.run([peers, script, json.dumps(ARGUMENTS), file], check=True, timeout=200, capture_output=True)
    with np.load(file) as arrays:
        given = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    arguments = ARGUMENTS | {"patch": [2, 2, 2], "features": 4}
    architecture = Architecture(kind="primus", dimensions=3, input_channels=1, output_channels=2, arguments=arguments)
    network = catalog.build(architecture).eval()
    own = dict(network.named_parameters())
    with torch.no_grad():
        own["positions.vectors"].copy_(to_grid(given["pos_embed"], ARGUMENTS["grid"]))
        for kind in ("weight", "bias"):
            own[f"norm.{kind}"].copy_(given[f"norm.{kind}"])
        for layer in range(ARGUMENTS["depth"]):
            theirs = {name.removeprefix(f"blocks.{layer}."): item for name, item in given.items()}
            for name, new in NAMES.items():
                for kind in ("weight", "bias"):
                    own[f"layers.{layer}.{new}.{kind}"].copy_(theirs[f"{name}.{kind}"])
            query, key, value = (theirs[f"attn.{name}_proj.weight"] for name in "qkv")
            own[f"layers.{layer}.attention.qkv.weight"].copy_(torch.cat((halves(query), halves(key), value)))
            shift = halves(theirs["attn.q_proj.bias"])
            shifts = torch.cat((shift, torch.zeros_like(shift), theirs["attn.v_proj.bias"]))
            own[f"layers.{layer}.attention.qkv.bias"].copy_(shifts)
            own[f"layers.{layer}.first_scale.factor"].copy_(theirs["gamma_1"])
            own[f"layers.{layer}.second_scale.factor"].copy_(theirs["gamma_2"])
        tokens = to_sequence(network.positions(to_grid(given["x"], ARGUMENTS["grid"])))
        angles = rotary_angles(ARGUMENTS["grid"], network.pairs)
        for module in network.layers:
            tokens = module(tokens, angles)
        torch.testing.assert_close(network.norm(tokens), given["y"], atol=1e-4, rtol=1e-4)
