"""Every size of every network that a preset or a paper names: trained a step, evaluated, kept, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autoseg.networks import catalog, memory, weights
from autoseg.records.configuration import Architecture
from autoseg.records.labels import Labels, Structure
from autoseg.records.preset import Recipe
from autoseg.stages.planning import load_preset, preset_names
from autoseg.stages.planning.networks import architecture, rule_of_shape

LABELS = Labels(structures=tuple(Structure(name=str(n), value=n, original=n) for n in (1, 2)))
# Arguments of the published sizes beside the preset's own.
SIZES: dict[str, tuple[dict[str, object], ...]] = {
    "mednext": tuple({"size": size, "kernel": kernel} for size in "SBML" for kernel in (3, 5)),
    "swin_unetr": ({"features": 24}, {"features": 48}),
    "primus": (
        {"width": 396, "depth": 12, "heads": 6},
        {"width": 864, "depth": 16, "heads": 12},
        {"width": 1056, "depth": 24, "heads": 16},
    ),
    "text_guided_unet": ({"head": "controller"}, {"head": "cosine"}),
}
# Voxels of the wanted patch: enough for five resolutions.
EDGES = {2: 128, 3: 64}
SPACINGS_MM = {2: (1.0, 1.0), 3: (2.0, 1.0, 1.0)}


def members() -> Iterator[object]:
    for name in preset_names():
        preset = load_preset(name)
        for dimensions in (2, 3):
            if f"{dimensions}d" not in preset.network.dimensions:
                continue
            spacing = SPACINGS_MM[dimensions]
            topology = rule_of_shape(preset.network, spacing)((EDGES[dimensions],) * dimensions)
            planned = architecture(preset.network, preset.recipe, topology, labels=LABELS, channels=2)
            for more in SIZES.get(name, ({},)):
                sized = planned.model_copy(update={"arguments": planned.arguments | more})
                words = "_".join(str(value) for value in more.values())
                yield pytest.param(sized, topology.patch, id=f"{name}_{dimensions}d_{words}".rstrip("_"))


@pytest.mark.slow
@pytest.mark.parametrize(("member", "patch"), list(members()))
def test_it_learns_evaluates_and_is_kept(member: Architecture, patch: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = catalog.build(member)
    x = torch.rand(1, 2, *patch)
    outputs = network(x)
    finest = outputs[0] if isinstance(outputs, list) else outputs
    assert tuple(finest.shape) == (1, LABELS.output_channels, *patch)
    sum(item.square().mean() for item in (outputs if isinstance(outputs, list) else [outputs])).backward()
    assert all(item.grad is not None and item.grad.isfinite().all() for item in network.parameters())
    network.eval()
    with torch.no_grad():
        first = network(x)
        assert torch.equal(first, network(x))
        weights.save(tmp_path / "model.safetensors", network.state_dict(), {})
        other = catalog.unfilled(member).eval()
        weights.load_into(other, weights.load(tmp_path / "model.safetensors")[0], file="model")
        assert torch.equal(other(x), first)
    shape = (1, *patch)[-3:]
    cost = memory.measure_step(member, Recipe(), shape, 2)  # type: ignore[arg-type]
    assert cost.parameters == sum(item.numel() for item in network.parameters())
    assert cost.flops > 2.5 * memory.measure_window(member, shape, 2).flops  # type: ignore[arg-type]
