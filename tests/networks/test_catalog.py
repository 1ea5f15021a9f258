from __future__ import annotations

from importlib import metadata

import pytest
import torch

from autoseg.networks import catalog
from autoseg.records.errors import UsageError
from autoseg.stages.planning.networks import family
from tests.command_line import child
from tests.networks.architectures import small


@pytest.mark.parametrize("function", [catalog.build, catalog.divisor, catalog.min_shape])
def test_an_unknown_network_is_answered_with_the_nearest(function: object) -> None:
    with pytest.raises(UsageError) as error:
        function(small("residual_unett"))  # type: ignore[operator]
    assert str(error.value) == "there is no network 'residual_unett'. Did you mean 'residual_unet'?"


def test_a_word_like_none_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match=r"There are: attention_unet, .*residual_unet, .*unet"):
        catalog.build(small("os.system"))


def test_the_catalog_cannot_be_added_to() -> None:
    with pytest.raises(TypeError):
        catalog.KINDS["mine"] = catalog.KINDS["unet"]  # type: ignore[index]


SMALL = catalog.KINDS["unet"]
NO_KIND = "a word"


def install(monkeypatch: pytest.MonkeyPatch, **kinds: str) -> None:
    """Let an installed package add these kinds: name -> what of this module stands for it."""
    points = [
        metadata.EntryPoint(name=name, value=f"{__name__}:{value}", group=catalog.GROUP)
        for name, value in kinds.items()
    ]

    def found(*, group: str) -> list[metadata.EntryPoint]:
        return points if group == catalog.GROUP else []

    monkeypatch.setattr(catalog, "entry_points", found)
    monkeypatch.setattr("autoseg.stages.planning.networks.entry_points", found)


def test_an_installed_package_adds_a_network_that_is_planned_like_a_u_net(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, mine="SMALL")
    assert catalog.divisor(small("mine")) == catalog.divisor(small("unet"))
    assert family("mine").max_stages == 0
    with pytest.raises(UsageError, match="Did you mean 'mine'"):
        catalog.build(small("mien"))


def test_a_package_cannot_take_the_place_of_a_kind_and_must_name_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, unet="NO_KIND", other="NO_KIND")
    catalog.build(small("unet"))
    with pytest.raises(UsageError, match="is str, not a Kind"):
        catalog.build(small("other"))


OUTLINED = """
import sys
from autoseg.networks import catalog
from autoseg.records.configuration import Architecture
architecture = Architecture.model_validate_json(sys.argv[1])
network = catalog.outline(architecture)
print({item.device.type for item in network.parameters()}, "torch._dynamo" in sys.modules)
"""


def test_an_outline_holds_nothing_and_does_not_load_torchs_compiler() -> None:
    architecture = small("residual_unet")
    assert child(OUTLINED, architecture.model_dump_json()).out.strip() == "{'meta'} False"
    shapes = [{k: v.shape for k, v in f(architecture).state_dict().items()} for f in (catalog.outline, catalog.build)]
    assert shapes[0] == shapes[1]


def test_nothing_is_drawn_for_weights_that_are_there() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    network = catalog.unfilled(small("unet"))
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.encoder[0][0].conv.weight.any()
    network.load_state_dict(catalog.build(small("unet")).state_dict())
