from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoseg.networks import catalog, weights
from autoseg.records.errors import DataError, ResourceError
from tests.networks.architectures import small


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    file = tmp_path / "models" / "model.safetensors"
    shared = torch.arange(6.0).view(2, 3)
    tensors = {"a": shared, "b": shared.T, "step": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}
    weights.save(file, tensors, {"plan": "default", "note": "ü"})
    found, metadata = weights.load(file)
    assert metadata == {"plan": "default", "note": "ü"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        weights.save(tmp_path / name, {"x": torch.ones(3)}, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_whoever_may_read_other_files_may_read_weights(tmp_path: Path) -> None:
    weights.save(tmp_path / "model.safetensors", {"x": torch.ones(3)}, {})
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_cut_file_is_named(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    weights.save(file, {"x": torch.ones(100)}, {})
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"model\.safetensors: the model file is damaged \(.*\)\. Copy it again"):
        weights.load(file)


def test_a_pickle_is_damaged_and_never_run(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.save({"x": torch.ones(3)}, file)
    with pytest.raises(DataError, match="the model file is damaged"):
        weights.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.safetensors: the model file does not exist\."):
        weights.load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    tensor = torch.ones(4)
    tensor[2] = value
    weights.save(file, {"fine": torch.ones(1), "head.weight": tensor}, {})
    with pytest.raises(DataError, match=r"model\.safetensors: 1 of 4 numbers in head\.weight are not finite\."):
        weights.load(file)
    assert weights.load(file, finite=False)[0]["fine"].item() == 1


def test_weights_go_into_a_network_of_the_same_architecture(tmp_path: Path) -> None:
    one, other = catalog.build(small()), catalog.build(small())
    weights.save(tmp_path / "w", one.state_dict(), {})
    weights.load_into(other, weights.load(tmp_path / "w")[0], file=tmp_path / "w")
    x = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(one.eval()(x), other.eval()(x))


def test_whatever_does_not_fit_is_named_in_one_line() -> None:
    network = torch.nn.Linear(2, 3)
    before = network.weight.detach().clone()
    tensors = {"weight": torch.zeros(3, 1), "scale": torch.ones(1), "x": torch.ones(1), "y": torch.ones(1)}
    with pytest.raises(DataError) as error:
        weights.load_into(network, tensors | {"z": torch.ones(1)}, file="model.safetensors")
    assert str(error.value) == (
        "model.safetensors: the weights do not fit the network (1 missing: bias; 4 unexpected: scale, x, y and 1 more; "
        "1 of another shape: weight is 3x1 instead of 3x2). Use the plan that the model was trained with."
    )
    assert torch.equal(network.weight, before)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    weights.save(file, {"x": torch.ones(1)}, {})

    def full(*_: object, **__: object) -> None:
        raise weights.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        weights.save(file, {"x": torch.zeros(1)}, {})
    assert weights.load(file)[0]["x"].item() == 1
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
