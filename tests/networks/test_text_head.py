"""Heads that compare voxels with class vectors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from autoseg.networks import catalog, text_head, weights
from autoseg.records.configuration import Architecture
from autoseg.records.errors import UsageError
from tests.networks.architectures import anisotropic

VECTORS = [[1.0, 0.0, 2.0], [0.0, -1.0, 0.5], [0.3, 0.3, 0.3]]
HEADS = ("controller", "cosine")


def text_guided(head: str = "controller", *, architecture: dict[str, object] | None = None, **more) -> Architecture:
    return anisotropic("text_guided_unet", more={"head": head} | more, **(architecture or {}))


def image() -> torch.Tensor:
    return torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", HEADS)
def test_swapping_two_vectors_swaps_two_classes(head: str) -> None:
    torch.manual_seed(0)
    network = catalog.build(text_guided(head, vectors=VECTORS)).eval()
    other = catalog.build(text_guided(head, vectors=[VECTORS[1], VECTORS[0], VECTORS[2]])).eval()
    own = {name: item for name, item in network.state_dict().items() if name != "vectors.given"}
    other.load_state_dict(own, strict=False)
    with torch.no_grad():
        first, second = network(image()), other(image())
    assert not torch.allclose(first[:, 0], first[:, 1])
    torch.testing.assert_close(second, first[:, [1, 0, 2]])


@pytest.mark.parametrize("head", HEADS)
def test_every_decoder_stage_has_logits(head: str) -> None:
    outputs = catalog.build(text_guided(head))(image())
    assert [tuple(item.shape) for item in outputs] == [(2, 3, 4, 8, 8), (2, 3, 4, 4, 4)]


@pytest.mark.parametrize("backbone", ["unet", "residual_unet", "attention_unet"])
def test_any_unet_carries_a_head(backbone: str) -> None:
    architecture = text_guided(backbone=backbone)
    assert catalog.divisor(architecture) == catalog.divisor(anisotropic(backbone))
    assert catalog.min_shape(architecture) == catalog.min_shape(anisotropic(backbone))
    assert catalog.build(architecture).eval()(image()).shape == (2, 3, 4, 8, 8)


@pytest.mark.parametrize("head", HEADS)
def test_given_vectors_travel_with_the_weights(head: str, tmp_path) -> None:
    network = catalog.build(text_guided(head, vectors=VECTORS)).eval()
    weights.save(tmp_path / "w", network.state_dict(), {})
    other = catalog.build(text_guided(head, vectors=[[0.0] * 3] * 3)).eval()
    weights.load_into(other, weights.load(tmp_path / "w")[0], file="w")
    assert other.state_dict()["vectors.given"].tolist() == torch.tensor(VECTORS).tolist()
    with torch.no_grad():
        assert torch.equal(network(image()), other(image()))


def test_given_vectors_are_not_trained_and_missing_ones_are() -> None:
    def trained(**arguments: object) -> list[tuple[int, ...]]:
        network = catalog.build(text_guided(**arguments))
        return [tuple(item.shape) for name, item in network.named_parameters() if name.startswith("vectors")]

    assert trained(vectors=VECTORS) == []
    assert trained(vectors=VECTORS[1:]) == [(1, 3)]
    assert trained() == [(3, text_head.VECTOR_WIDTH)]
    assert trained(vector_width=5) == [(3, 5)]


def test_background_comes_before_the_given_vectors() -> None:
    network = catalog.build(text_guided(vectors=VECTORS[1:]))
    assert network.vectors()[1:].tolist() == torch.tensor(VECTORS[1:]).tolist()


def test_cosine_logits_lie_within_the_temperature() -> None:
    network = catalog.build(text_guided("cosine", vectors=VECTORS)).eval()
    with torch.no_grad():
        logits = network(image())
        embedding = network.backbone(image())
        expected = F.cosine_similarity(
            embedding[:, :, None].movedim(2, -1), network.project(network.vectors()).T[None, :, None, None, None], dim=1
        ).movedim(-1, 1)
        torch.testing.assert_close(logits, expected / text_head.START_TEMPERATURE, atol=1e-4, rtol=1e-4)
        network.log_scale.fill_(50.0)
        assert float(network(image()).abs().max()) <= 1 / text_head.LOWEST_TEMPERATURE + 1e-3


def test_three_written_layers_by_hand() -> None:
    """Two channels, one class: layers [[1, 0], [0, 2]] + (0, 1), [[1, 1], [0, -1]], (3, 5) + 7."""
    numbers = torch.tensor([1.0, 0, 0, 2, 0, 1, 1, 1, 0, -1, 0, 0, 3, 5, 7]).reshape(1, 1, -1)
    voxels = torch.tensor([[[1.0, -4.0], [2.0, -3.0]]])
    # First voxel: (1, 5), (6, 0), 18 + 7. Second: (0, 0), (0, 0), 7.
    assert text_head._three_layers(voxels, numbers).tolist() == [[[25.0, 7.0]]]


def test_checkpointing_in_parts_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = catalog.build(text_guided(architecture={"checkpointing": checkpointing, "output_channels": 19}))
        sum(item.square().mean() for item in network(image())).backward()
        found.append([item.grad for item in network.parameters()])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"head": "cosin"}, "argument 'head' is 'cosin'. Use one of controller, cosine."),
        ({"backbone": "swin"}, "argument 'backbone' is 'swin'. Use one of unet, residual_unet, attention_unet."),
        ({"vectors": VECTORS[:1]}, "argument 'vectors' has 1 rows, not 3 (or 2, no background)."),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "argument 'vectors' has rows of 1 and of 2 numbers."),
        (
            {"vectors": [[float("nan")]] * 3},
            "argument 'vectors' is not a list of lists of finite numbers, one a class.",
        ),
        ({"vectors": "file.json"}, "argument 'vectors' is not a list of lists of finite numbers, one a class."),
        ({"vectors": VECTORS, "vector_width": 3}, "is given beside 'vectors', which have a length already."),
        ({"embedding": 0}, "argument 'embedding' is 0, not a whole number of 1 or more."),
        ({"vector": VECTORS}, "argument 'vector' is unknown. Did you mean 'vectors'?"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.build(text_guided(**arguments))
    assert str(error.value).startswith("network text_guided_unet: argument ")
    assert str(error.value).endswith(sentence)
