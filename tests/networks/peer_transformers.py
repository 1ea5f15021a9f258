"""Run by the peers' interpreter: MONAI's UNETR or SwinUNETR with random weights, an image, and what comes out."""

import json
import sys
import warnings
from pathlib import Path

import torch
from monai.networks.nets import UNETR, SwinUNETR


def write_tensors(path, tensors):
    """Write safetensors without the package, which the peers may lack: length, JSON header, float32 data."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        content = tensor.detach().float().contiguous().numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def built(kind, shape):
    norm = ("instance", {"affine": True})
    axes = len(shape)
    if kind == "unetr":
        return UNETR(
            2, 3, shape, feature_size=4, hidden_size=12, mlp_dim=48, num_heads=2, norm_name=norm, spatial_dims=axes
        )
    return SwinUNETR(
        2, 3, feature_size=12, num_heads=(2, 2, 2, 2), window_size=2, norm_name=norm, spatial_dims=axes,
        downsample="mergingv2",
    )  # fmt: skip


def main(kind, shape, path):
    warnings.simplefilter("ignore")
    torch.manual_seed(3)
    network = built(kind, shape).eval()
    for item in network.parameters():
        torch.nn.init.normal_(item, mean=0.1 if item.ndim == 1 else 0.0, std=0.2)
    x = torch.rand(2, 2, *shape)
    with torch.no_grad():
        y = network(x)
    write_tensors(path, dict(network.named_parameters()) | {"x": x, "y": y})


main(sys.argv[1], tuple(map(int, sys.argv[2].split("x"))), Path(sys.argv[3]))
