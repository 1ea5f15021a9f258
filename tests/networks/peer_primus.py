"""Run by the peers' interpreter: the transformer of the authors' Primus with random weights, tokens, and its answer."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

# timm loads torchvision, of which nothing is used here; one that was built for another torch lacks its operators and
# stops at describing the first two.
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
with contextlib.suppress(RuntimeError):
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from dynamic_network_architectures.building_blocks.eva import Eva  # noqa: E402


def main(arguments, path):
    torch.manual_seed(3)
    network = Eva(
        embed_dim=arguments["width"],
        depth=arguments["depth"],
        num_heads=arguments["heads"],
        ref_feat_shape=tuple(arguments["grid"]),
        scale_attn_inner=True,
        init_values=0.1,
    ).eval()
    for item in network.parameters():
        torch.nn.init.normal_(item, mean=0.1 if item.ndim == 1 else 0.0, std=0.2)
    x = torch.randn(2, int(np.prod(arguments["grid"])), arguments["width"])
    with torch.no_grad():
        y, _ = network(x)
    named = dict(network.named_parameters()) | {"x": x, "y": y}
    np.savez(path, **{name: item.detach().numpy() for name, item in named.items()})


main(json.loads(sys.argv[1]), Path(sys.argv[2]))
