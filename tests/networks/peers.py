"""Running MONAI's networks in the interpreter that has them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def monai_outputs(
    kind: str, arguments: Mapping[str, object], parameters: Sequence[Tensor], *, x: Tensor, folder: Path
) -> list[Tensor]:
    """Return what MONAI's network puts out for `x` with these parameters, given in the order of its own."""
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has monai")
    weights = {f"{index:04}": item.detach().clone().contiguous() for index, item in enumerate(parameters)}
    save_file(weights | {"x": x}, folder / "given.safetensors")
    (folder / "kind").write_text(kind)
    (folder / "arguments.json").write_text(json.dumps(arguments))
    script = Path(__file__).with_name("peer_monai.py")
    done = subprocess.run([peers, script, folder], check=False, timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = load_file(folder / "found.safetensors")
    return [found[str(index)] for index in range(len(found))]


def in_order(*modules: nn.Module) -> list[Tensor]:
    """Return the parameters of the modules, one module after the other."""
    return [item for module in modules for item in module.parameters()]
