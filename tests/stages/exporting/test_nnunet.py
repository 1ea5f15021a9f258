"""A published nnU-Net v2 model predicts here what it predicts there, and nothing in its folder is executed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg import Predictor
from autoseg.networks import catalog, nnunet_weights, sweep
from autoseg.records.errors import DataError
from autoseg.records.package import Package
from autoseg.stages import exporting
from tests.command_line import done, refused
from tests.networks.architectures import anisotropic

KINDS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}


def plans(class_name: str, dimensions: int = 3) -> dict[str, Any]:
    """Plans as nnU-Net 2 writes them, small; z is coarser than y and x."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("nnunet_plans.json").read_text())
    configuration = content["configurations"].pop("3d")
    content["configurations"][f"{dimensions}d"] = configuration
    for key in ("patch_size", "median_image_size_in_voxels", "spacing"):
        configuration[key] = configuration[key][3 - dimensions :]
    architecture = configuration["architecture"]
    architecture["network_class_name"] = f"dynamic_network_architectures.architectures.unet.{class_name}"
    arguments = architecture["arch_kwargs"]
    arguments[KINDS[class_name]] = arguments.pop("n_conv_per_stage")
    for key in ("conv_op", "norm_op"):
        arguments[key] = arguments[key].replace("3d", f"{dimensions}d")
    for key in ("kernel_sizes", "strides"):
        arguments[key] = [row[3 - dimensions :] for row in arguments[key]]
    return content


def published(folder: Path, content: dict[str, Any]) -> Path:
    """The two descriptions of a model folder, without a checkpoint."""
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(content))
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "core": 1, "rim": 2},
                   "numTraining": 4, "file_ending": ".nii.gz"}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def their_names(kind: str, **changes: object) -> dict[str, torch.Tensor]:
    """The tensors of our network under their names, some of them twice as in their files."""
    torch.manual_seed(0)
    own = catalog.build(anisotropic(kind)).state_dict()
    names = dict(nnunet_weights._pairs(own, residual=kind == "residual_unet"))
    found = {theirs: own[ours] for ours, theirs in names.items()}
    twice = {f"decoder.{name}": tensor for name, tensor in found.items() if name.startswith("encoder.")}
    return found | twice


@pytest.mark.peer
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("class_name", sorted(KINDS))
def test_logits_and_labels_are_those_of_nnunet(
    class_name: str, dimensions: int, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = os.environ.get("AUTOSEG_PEERS_PYTHON")
    if not peers:
        pytest.skip("AUTOSEG_PEERS_PYTHON does not name an interpreter that has nnunetv2")
    folder = published(tmp_path / f"nnUNetTrainer__nnUNetPlans__{dimensions}d", plans(class_name, dimensions))
    # Its axes point to the right and the front: nnU-Net takes them as they are.
    scans = sorted((real_data / "Task04_Hippocampus/imagesTr").glob("hippocampus_*.nii.gz"))
    shutil.copy(scans[0], folder / "scan.nii.gz")
    script = Path(__file__).with_name("peer_nnunet.py")
    places = {f"nnUNet_{name}": str(tmp_path) for name in ("raw", "preprocessed", "results")}
    end = subprocess.run([peers, script, folder, f"{dimensions}d"], timeout=280, capture_output=True, text=True,
                         env={**os.environ, **places})  # fmt: skip
    assert end.returncode == 0, end.stderr[-2000:]
    done("import-model", folder, "-o", tmp_path / "m.zip", "--licence", "CC BY 4.0")
    predictor = Predictor.load(tmp_path / "m.zip", device="cpu")
    x = torch.from_numpy(np.load(folder / "x.npy"))
    for fold, network in enumerate(predictor.members[0].networks):
        expected = np.load(folder / f"logits_{fold}.npy")
        with torch.no_grad():
            assert np.abs(network(x).numpy() - expected).max() < 1e-4 * np.abs(expected).max()
    done("predict", "-m", tmp_path / "m.zip", "-i", folder / "scan.nii.gz", "-o", tmp_path / "out", "--device", "cpu")
    import nibabel

    found = np.asarray(nibabel.load(tmp_path / "out" / "scan.nii.gz").dataobj).T
    expected = np.load(folder / "labels.npy")
    assert len(np.unique(expected)) == 3, "a prediction of one class would prove little"
    # Classes of a random network lie close to one another; the Gaussian over a window tips single voxels.
    assert (found == expected).mean() > 0.98
    monkeypatch.setattr(sweep, "importance", their_importance)
    image = nibabel.load(folder / "scan.nii.gz")
    same_weights = predictor.predict(image.get_fdata().T, affine=image.affine).labels
    assert (same_weights == expected).mean() > 0.999


def their_importance(patch: tuple[int, ...]) -> torch.Tensor:
    """nnU-Net's weights: a peak in the voxel after the middle, blurred, cut off at four sigma."""
    seen = [size for size in patch if size > 1]
    peak = np.zeros(seen)
    peak[tuple(size // 2 for size in seen)] = 1
    blurred = ndimage.gaussian_filter(peak, [size / 8 for size in seen], mode="constant")
    weights = (blurred / (blurred.max() / 10)).astype(np.float16).astype(np.float32)
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights.reshape(patch))


@pytest.mark.parametrize("kind", ["unet", "residual_unet"])
def test_every_tensor_finds_its_place(kind: str) -> None:
    found = their_names(kind)
    tensors = nnunet_weights.translate(found, anisotropic(kind), file="x")
    own = catalog.build(anisotropic(kind)).state_dict()
    assert set(tensors) == set(own)
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(own)


def test_a_network_of_other_plans_is_refused() -> None:
    found = their_names("unet")
    lost = next(name for name in found if "transpconvs" in name)
    with pytest.raises(DataError, match=f"it lacks {lost}"):
        nnunet_weights.translate({k: v for k, v in found.items() if k != lost}, anisotropic("unet"), file="x")
    with pytest.raises(DataError, match=r"it has besides encoder\.extra"):
        nnunet_weights.translate(found | {"encoder.extra": torch.zeros(1)}, anisotropic("unet"), file="x")
    with pytest.raises(DataError, match="of another shape"):
        nnunet_weights.translate(found | {lost: torch.zeros(1)}, anisotropic("unet"), file="x")
    with pytest.raises(DataError, match="not finite"):
        nnunet_weights.translate(found | {lost: found[lost] * torch.nan}, anisotropic("unet"), file="x")


def test_f84_a_checkpoint_that_would_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    folder = published(tmp_path / "nnUNetTrainer__nnUNetPlans__3d", plans("PlainConvUNet"))
    (folder / "fold_0").mkdir()
    file = folder / "fold_0" / "checkpoint_final.pth"
    for content in ({"network_weights": Evil()}, {"network_weights": {}, "x": subprocess.Popen}):
        torch.save(content, file)
        message = refused("import-model", folder, "-o", tmp_path / "m.zip", code=3)
        assert str(file) in message
        assert "holds more than tensors and numbers" in message
    file.write_bytes(pickle.dumps(Evil()))
    assert "is not opened" in refused("import-model", folder, "-o", tmp_path / "m.zip", code=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]


def imported(folder: Path, content: dict[str, Any], flips: tuple[int, ...] | None = None) -> Package:
    published(folder, content)
    kind = "unet" if "Plain" in json.dumps(content) else "residual_unet"
    architecture = exporting.nnunet._architecture(next(iter(content["configurations"].values())), 1, 3, folder)
    assert architecture.kind == kind
    torch.manual_seed(0)
    own = catalog.build(architecture).state_dict()
    names = dict(nnunet_weights._pairs(own, residual=kind == "residual_unet"))
    (folder / "fold_all").mkdir()
    weights = {"network_weights": {theirs: own[ours] for ours, theirs in names.items()},
               "inference_allowed_mirroring_axes": flips}  # fmt: skip
    torch.save(weights, folder / "fold_all" / "checkpoint_final.pth")
    return exporting.import_folder(folder).package


def test_plans_become_ours(tmp_path: Path) -> None:
    content = plans("PlainConvUNet")
    content["configurations"]["3d"].update(normalization_schemes=["CTNormalization"])
    package = imported(tmp_path / "a__3d", content, (0, 1, 2))
    (configuration,) = package.plan.configurations
    assert configuration.patch_shape == (16, 32, 32)
    assert configuration.spacing_mm == (2.0, 1.2, 1.2)
    assert configuration.mirror_axes == (0, 1, 2)
    (rule,) = configuration.normalizations
    assert (rule.kind, rule.lower, rule.upper, rule.mean, rule.std) == ("ct", 0.0, 8.0, 1.0, 2.0)
    assert [(item.name, item.original) for item in package.plan.labels.structures] == [("core", 1), ("rim", 2)]
    assert package.origin == "nnU-Net v2"
    assert [network.key for network in package.networks()] == ["nnunet/3d/base_s0/fold_all"]


def test_older_plans_say_the_same(tmp_path: Path) -> None:
    new = plans("PlainConvUNet")
    old = plans("PlainConvUNet")
    settings = old["configurations"]["3d"]
    arguments = settings.pop("architecture")["arch_kwargs"]
    settings |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 8,
        "unet_max_num_features": 24,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    first, second = imported(tmp_path / "a__3d", new), imported(tmp_path / "b__3d", old)
    assert first.plan == second.plan


def test_a_network_that_never_saw_a_flip_sees_none_in_prediction(tmp_path: Path) -> None:
    """nnU-Net stores None where a model was trained without mirroring, and predicts without it."""
    (configuration,) = imported(tmp_path / "a__3d", plans("PlainConvUNet")).plan.configurations
    assert configuration.mirror_axes == ()


def test_two_dimensions(tmp_path: Path) -> None:
    package = imported(tmp_path / "a__2d", plans("ResidualEncoderUNet", 2), (0, 1))
    (configuration,) = package.plan.configurations
    assert configuration.patch_shape == (1, 32, 32)
    assert configuration.spacing_mm == (None, 1.2, 1.2)
    assert configuration.mirror_axes == (1, 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image_reader_writer": "NibabelIOWithReorient"}, "reads images with NibabelIOWithReorient"),
        ({"configurations": {}}, "has no configuration '3d'"),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    folder = published(tmp_path / "a__3d", plans("PlainConvUNet") | change)
    (folder / "fold_0").mkdir()
    torch.save({"network_weights": {}}, folder / "fold_0" / "checkpoint_final.pth")
    assert sentence in refused("import-model", folder, "-o", tmp_path / "m.zip", code=3)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("previous_stage", "3d_lowres", "a cascade's second stage behind 3d_lowres"),
        ("normalization_schemes", ["MyNormalization"], "normalises with MyNormalization"),
        ("resampling_fn_data", "resample_torch_fornnunet", "resamples with resample_torch_fornnunet"),
        ("network_class_name", "evil.module.Network", "uses the network Network"),
        ("norm_op", "torch.nn.BatchNorm3d", "norm_op BatchNorm3d where InstanceNorm3d is known"),
        ("spacing", "wide", "is not as nnU-Net v2 writes it"),
        ("conv_bias", False, "changes the layers of its network"),
    ],
)
def test_settings_without_a_counterpart_are_named(tmp_path: Path, key: str, value: Any, sentence: str) -> None:
    content = plans("PlainConvUNet")
    settings = content["configurations"]["3d"]
    for place in (settings, settings["architecture"], settings["architecture"]["arch_kwargs"]):
        if key in place or (key == "previous_stage" and place is settings):
            place[key] = value
    folder = published(tmp_path / "a__3d", content)
    (folder / "fold_0").mkdir()
    torch.save({"network_weights": {}}, folder / "fold_0" / "checkpoint_final.pth")
    assert sentence in refused("import-model", folder, "-o", tmp_path / "m.zip", code=3)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert "plans.json" in refused("import-model", tmp_path, "-o", tmp_path / "m.zip", code=3)
    folder = published(tmp_path / "a__3d", plans("PlainConvUNet"))
    assert "holds no fold_X/checkpoint_final.pth" in refused("import-model", folder, "-o", tmp_path / "m.zip", code=3)
