"""ONNX networks give the labels that torch gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from autoseg import Predictor
from autoseg.images.files import read_volume
from autoseg.networks import catalog, onnx_file
from autoseg.records.errors import DataError, ResourceError
from tests.command_line import done, refused
from tests.conftest import WholeWay
from tests.faults import builders
from tests.networks.architectures import small

pytest.importorskip("onnx", reason="the exporter needs onnx")
pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
pytest.importorskip("onnxruntime", reason="running the export needs onnxruntime")


@pytest.fixture(scope="module")
def models(whole_way: WholeWay, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file, and the same as a folder of ONNX networks, from one command."""
    folder = tmp_path_factory.mktemp("onnx")
    at = ("export", "-d", "Knot", "--root", whole_way.root)
    done(*at, "-o", folder / "m.zip", "--onnx", folder / "onnx")
    return folder / "m.zip", folder / "onnx"


def test_labels_agree_in_at_least_999_of_1000_voxels(
    models: tuple[Path, Path], whole_way: WholeWay, tmp_path: Path
) -> None:
    agreeing, voxels, found = 0, 0, set()
    for name, model in zip(("torch", "onnx"), models):
        done("predict", "-m", model, "-i", whole_way.raw / "imagesTr", "-o", tmp_path / name, "--device", "cpu")
    for path in sorted((tmp_path / "torch").iterdir()):
        one, other = read_volume(path)[0], read_volume(tmp_path / "onnx" / path.name)[0]
        agreeing, voxels = agreeing + int((one == other).sum()), voxels + one.size
        found |= set(np.unique(other))
    assert voxels == 4 * np.prod(builders.SHAPE)
    assert agreeing / voxels >= 0.999
    assert len(found) > 1, "an empty prediction would agree with anything empty"


def test_the_folder_tells_its_own_hash_from_the_files(models: tuple[Path, Path]) -> None:
    file, folder = (Predictor.load(model) for model in models)
    assert file.digest != folder.digest
    assert [member.name for member in file.members] == [member.name for member in folder.members]
    assert not list(models[1].rglob("*.safetensors"))


@pytest.mark.slow
def test_the_same_networks_give_the_same_files_without_a_path_of_this_machine(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    done("export", "-m", models[0], "--onnx", tmp_path / "again")
    for path in sorted(models[1].rglob("*.onnx")):
        content = path.read_bytes()
        assert (tmp_path / "again" / path.relative_to(models[1])).read_bytes() == content
        assert str(Path(onnx_file.__file__).parents[2]).encode() not in content


def test_a_network_that_was_changed_is_refused(models: tuple[Path, Path], whole_way: WholeWay, tmp_path: Path) -> None:
    shutil.copytree(models[1], tmp_path / "onnx")
    file = next((tmp_path / "onnx").rglob("*.onnx"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    scan = builders.image_file(whole_way.raw, builders.CASES[0])
    message = refused("predict", "-m", tmp_path / "onnx", "-i", scan, "-o", tmp_path / "out", code=3)
    assert "the manifest speaks of" in message


def test_a_path_that_leads_out_of_the_folder_is_refused(
    models: tuple[Path, Path], whole_way: WholeWay, tmp_path: Path
) -> None:
    shutil.copytree(models[1], tmp_path / "onnx")
    manifest = json.loads((tmp_path / "onnx/manifest.json").read_text())
    entry = manifest["members"][0]["networks"][0]
    shutil.move(tmp_path / "onnx" / entry["file"], tmp_path / "outside.onnx")
    entry["file"] = "../outside.onnx"
    (tmp_path / "onnx/manifest.json").write_text(json.dumps(manifest))
    scan = builders.image_file(whole_way.raw, builders.CASES[0])
    message = refused("predict", "-m", tmp_path / "onnx", "-i", scan, "-o", tmp_path / "out", code=3)
    assert "../outside.onnx is missing" in message


def test_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = catalog.build(small("unet", 2))
    twin = onnx_file.load(onnx_file.write(network, 1, (8, 16)), file="x")
    assert network.training, "its mode comes back"
    network.eval()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 1, 8, 16)
        with torch.no_grad():
            torch.testing.assert_close(twin(x), network(x), atol=1e-5, rtol=1e-4)


def test_what_is_no_onnx_file() -> None:
    with pytest.raises(DataError, match=r"onnxruntime cannot read this network.*autoseg export --onnx"):
        onnx_file.load(b"rubbish", file="x.onnx")


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        ResourceError, match=r"onnxruntime is not installed\. Install it with `pip install autoseg\[onnx\]`"
    ):
        onnx_file.load(b"", file="x.onnx")
