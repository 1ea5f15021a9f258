from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autoseg.networks import catalog
from autoseg.networks.arguments import wrong
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic, small

KINDS = ("unet", "residual_unet", "attention_unet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_training_gives_all_decoder_stages_finest_first(kind: str, dimensions: int) -> None:
    network = catalog.build(small(kind, dimensions))
    outputs = network(torch.rand(2, 1, *[16] * dimensions))
    assert [tuple(item.shape) for item in outputs] == [(2, 3, *[16] * dimensions), (2, 3, *[8] * dimensions)]


@pytest.mark.parametrize("kind", KINDS)
def test_strides_and_kernels_are_per_axis(kind: str) -> None:
    outputs = catalog.build(anisotropic(kind))(torch.rand(1, 1, 4, 8, 16))
    assert [tuple(item.shape[2:]) for item in outputs] == [(4, 8, 16), (4, 4, 8)]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_gives_the_finest_output_alone(kind: str) -> None:
    network = catalog.build(anisotropic(kind))
    x = torch.rand(1, 1, 4, 8, 8)
    finest = network(x)[0]
    assert torch.equal(network.eval()(x), finest)


def test_without_deep_supervision_there_is_one_head_and_one_output() -> None:
    network = catalog.build(small(deep_supervision=False))
    assert isinstance(network(torch.rand(1, 1, 8, 8, 8)), torch.Tensor)
    assert len(network.heads) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    network = catalog.build(anisotropic(kind))
    sum(item.square().sum() for item in network(torch.rand(1, 1, 8, 8, 8))).backward()
    assert [name for name, item in network.named_parameters() if item.grad is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_gradient(kind: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = catalog.build(anisotropic(kind, checkpointing=checkpointing))
        sum(item.square().mean() for item in network(torch.ones(1, 1, 4, 8, 8).cumsum(4))).backward()
        gradients.append([item.grad for item in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients))


def test_a_patch_of_the_smallest_shape_passes() -> None:
    architecture = anisotropic()
    assert catalog.divisor(architecture) == (2, 4, 4)
    assert catalog.min_shape(architecture) == (4, 8, 8)
    network = catalog.build(architecture)
    assert network(torch.rand(1, 1, *catalog.min_shape(architecture)))[0].isfinite().all()
    assert catalog.divisor(small(dimensions=2)) == (1, 4, 4)
    assert catalog.min_shape(small(dimensions=2)) == (1, 8, 8)


def test_the_default_nnunet_has_its_published_number_of_parameters() -> None:
    # Isensee et al. 2021: 3d_fullres, six stages of 32 to 320 features: 31 million.
    with torch.device("meta"):
        network = catalog.build(_published("unet", [2] * 6, [2] * 5))
    assert sum(item.numel() for item in network.parameters()) == 31_196_399


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("features", [4], "argument 'features' has 1 entry, but a U-Net has 2 stages or more."),
        ("features", [4, "8", 16], "argument 'features' is [4, '8', 16], not a list of whole numbers of 1 or more."),
        ("strides", [[1, 1, 1]], "argument 'strides' has 1 entries, not 3."),
        ("strides", [[2, 1, 1]] * 3, "begins with [2, 1, 1], but the first stage keeps every voxel."),
        ("kernels", [[3, 3]] * 3, "not a list of [z, y, x] whole numbers of 1 or more."),
        ("kernels", [[2, 3, 3]] * 3, "but a kernel's size is odd."),
        ("decoder_blocks", [1, 1, 1], "argument 'decoder_blocks' has 3 entries, not 2."),
        ("block", 3, "argument 'block' is unknown. Did you mean 'blocks'?"),
    ],
)
def test_a_wrong_argument_is_named(key: str, value: object, sentence: str) -> None:
    architecture = small()
    changed = architecture.model_copy(update={"arguments": architecture.arguments | {key: value}})
    with pytest.raises(UsageError) as error:
        catalog.build(changed)
    assert str(error.value).startswith("network unet: ")
    assert str(error.value).endswith(sentence)


def test_a_missing_argument_is_named() -> None:
    architecture = small()
    changed = architecture.model_copy(update={"arguments": {"features": [4, 8]}})
    with pytest.raises(UsageError, match=r"argument 'strides' is missing\. It takes features, strides, kernels"):
        catalog.build(changed)


def test_wrong_names_the_network_and_the_key() -> None:
    assert str(wrong(small(), "x", "is odd", fix="Use 2.")) == "network unet: argument 'x' is odd. Use 2."


@pytest.mark.peer
@pytest.mark.parametrize(
    ("kind", "blocks", "decoder_blocks"),
    [("unet", [2, 2, 2], [2, 2]), ("residual_unet", [1, 3, 4], [1, 1])],
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_same_weights_give_the_outputs_of_nnunet(
    kind: str, blocks: list[int], decoder_blocks: list[int], dimensions: int, tmp_path: Path
) -> None:
    architecture = anisotropic(kind, output_channels=2, input_channels=2)
    cut = {key: [row[-dimensions:] for row in architecture.arguments[key]] for key in ("strides", "kernels")}
    arguments = architecture.arguments | cut | {"blocks": blocks, "decoder_blocks": decoder_blocks}
    architecture = architecture.model_copy(update={"arguments": arguments, "dimensions": dimensions})
    _compare_with_peer(architecture, torch.rand(2, 2, *(8, 16, 16)[-dimensions:]), tmp_path)


def _compare_with_peer(architecture: Architecture, x: torch.Tensor, folder: Path) -> None:
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has dynamic_network_architectures")
    torch.manual_seed(1)
    network = catalog.build(architecture)
    for item in network.parameters():
        torch.nn.init.normal_(item, std=0.1)
    with torch.no_grad():
        expected = network(x)
    weights = {f"{index:04}": item.detach().clone() for index, item in enumerate(network.parameters())}
    save_file(weights | {"x": x}, folder / "given.safetensors")
    (folder / "architecture.json").write_text(architecture.model_dump_json())
    script = Path(__file__).with_name("peer_unet.py")
    subprocess.run([peers, script, folder], check=True, timeout=200, capture_output=True)
    report = json.loads((folder / "report.json").read_text())
    assert report["parameters"] == sum(item.numel() for item in network.parameters())
    found = load_file(folder / "found.safetensors")
    for index, item in enumerate(expected):
        torch.testing.assert_close(found[str(index)], item, atol=1e-4, rtol=1e-4)


def _published(kind: str, blocks: list[int], decoder_blocks: list[int]) -> Architecture:
    return small(
        kind,
        arguments={
            "features": [32, 64, 128, 256, 320, 320],
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
            "kernels": [[3, 3, 3]] * 6,
            "blocks": blocks,
            "decoder_blocks": decoder_blocks,
        },
    )
