import pytest
import torch

from autoseg.networks import catalog
from autoseg.networks.transfer import layer_ranks, load_what_fits
from autoseg.records.errors import DataError
from tests.networks.architectures import SMALLEST, small

KINDS = [(kind, item) for kind, pair in SMALLEST.items() for item in pair if item is not None]


def built(architecture, seed=0):
    torch.manual_seed(seed)
    return catalog.build(architecture)


@pytest.mark.parametrize(("kind", "architecture"), KINDS, ids=[f"{k}_{a.dimensions}d" for k, a in KINDS])
def test_every_network_takes_over_all_but_stem_and_heads(kind, architecture):
    old = built(architecture)
    other = architecture.model_copy(
        update={"input_channels": architecture.input_channels + 1, "output_channels": architecture.output_channels + 2}
    )
    rows = architecture.arguments.get("vectors")
    if rows:
        other = other.model_copy(update={"arguments": {**other.arguments, "vectors": [*rows, *rows]}})
    new = built(other, seed=1)
    before = {name: item.clone() for name, item in new.state_dict().items()}
    found = load_what_fits(new, old.state_dict(), other, keep_heads=False, file="")
    weights, source = new.state_dict(), old.state_dict()
    assert all(torch.equal(weights[name], source[name]) for name in found.loaded)
    assert all(torch.equal(weights[name], before[name]) for name in found.new)
    assert len(found.adapted) >= 1
    assert len(found.loaded) > len(found.new) + len(found.adapted)
    assert {*found.loaded, *found.adapted, *found.new} == set(weights)


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_channels_give_what_the_old_stem_gave(channels):
    """Two old channels with the same image equal any number of new ones with it."""
    old = built(small(input_channels=2))
    new = built(small(input_channels=channels), seed=1)
    found = load_what_fits(new, old.state_dict(), small(input_channels=channels), keep_heads=True, file="")
    assert found.adapted == ("encoder.0.0.conv.weight",)
    assert found.new == ()
    image = torch.randn(1, 1, 8, 8, 8)
    outputs = [network.eval()(image.expand(1, count, 8, 8, 8)) for network, count in ((old, 2), (new, channels))]
    torch.testing.assert_close(outputs[0], outputs[1])


def test_kernels_of_three_grow_to_five():
    old, more = built(small("mednext")), {"kernel": 5}
    new = built(small("mednext", more=more), seed=1)
    found = load_what_fits(new, old.state_dict(), small("mednext", more=more), keep_heads=True, file="")
    assert found.new == ()
    assert set(found.grown) == {name for name in new.state_dict() if name.endswith(".depthwise.weight")}
    assert f"; {len(found.grown)} grown from smaller kernels: " in found.line()
    name = "encoder.0.0.depthwise.weight"
    corners = new.state_dict()[name][..., 0, 0, 0], old.state_dict()[name][..., 0, 0, 0]
    torch.testing.assert_close(*corners)
    back = load_what_fits(built(small("mednext")), new.state_dict(), small("mednext"), keep_heads=True, file="")
    assert back.grown == (), "a large kernel is not made smaller"
    assert name in back.new


def test_heads_are_kept_only_where_labels_are_the_same():
    old = built(small())
    for keep in (True, False):
        new = built(small(), seed=1)
        found = load_what_fits(new, old.state_dict(), small(), keep_heads=keep, file="")
        heads = [name for name in new.state_dict() if name.startswith("heads")]
        assert list(found.new) == ([] if keep else heads)
        assert torch.equal(new.state_dict()[heads[0]], old.state_dict()[heads[0]]) is keep


def test_the_line_names_what_was_not_taken():
    source = built(small(stages=4)).state_dict()
    found = load_what_fits(built(small()), source, small(), keep_heads=True, file="")
    assert found.line().startswith(f"{len(found.loaded)} of ")
    assert "unused: encoder.3.0.conv.weight" in found.line()


def test_weights_of_something_else_are_refused():
    with pytest.raises(DataError, match="nothing of these weights fits the network"):
        load_what_fits(built(small()), {"other": torch.zeros(3)}, small(), keep_heads=True, file="a.safetensors")


@pytest.mark.parametrize("kind", ["unet", "segresnet"])
def test_layers_are_ranked_from_the_stem_to_the_last_head(kind):
    network = built(small(kind))
    ranks = layer_ranks(network, torch.zeros(1, 1, 8, 8, 8))
    assert ranks.keys() == dict(network.named_parameters()).keys()
    assert min(ranks.values()) == 0
    assert max(ranks.values()) == 1
    first = next(iter(ranks))
    assert ranks[first] == 0
    if kind == "unet":
        assert ranks["encoder.0.0.conv.weight"] < ranks["encoder.2.0.conv.weight"] < ranks["decoder.0.0.conv.weight"]
        assert ranks["heads.0.weight"] == 1 or ranks["heads.1.weight"] == 1


def test_weights_of_another_dimension_are_refused_although_their_biases_fit():
    source = built(small(dimensions=2)).state_dict()
    with pytest.raises(DataError, match="nothing of these weights fits"):
        load_what_fits(built(small()), source, small(), keep_heads=True, file="a.safetensors")
