"""A published nnU-Net v2 model folder -> the contents of one of our model files, for prediction.

The folder holds `plans.json`, `dataset.json` and `fold_X/checkpoint_final.pth`. Everything that the plans say by the
name of a class is compared with the names that are known here; nothing is imported by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from safetensors.torch import save

from autoseg import __version__
from autoseg.networks import catalog, nnunet_weights
from autoseg.records.configuration import Architecture, Configuration, MemoryEstimate, Normalization
from autoseg.records.dataset import Channel, Correction, check_name
from autoseg.records.errors import DataError
from autoseg.records.machine import DeviceProfile
from autoseg.records.package import Package, PackagedMember, PackagedNetwork
from autoseg.records.plan import Decision, LineupEntry, Plan
from autoseg.records.preset import Recipe
from autoseg.stages.exporting.package import SUFFIX, Contents
from autoseg.stages.importing.channels import read_channels
from autoseg.stages.importing.descriptions import read_description
from autoseg.stages.importing.structures import read_structures

NETWORKS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "residual_unet"}
NORMALIZATIONS = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "minmax",
    "RGBTo01Normalization": "rgb",
}
READERS = ("SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO")
RESAMPLINGS = ("resample_data_or_seg_to_shape",)
PLAN = "nnunet"


def import_folder(source: Path, *, licence: str = "", intended_use: str = "") -> Contents:
    """Return the contents of a model file that predicts as the folder's model does.

    Args:
        source: `nnUNetTrainer__nnUNetPlans__3d_fullres` or another trained model folder.
        licence: In the maker's words.
        intended_use: Likewise.

    Raises:
        DataError: A file is missing or damaged, a checkpoint holds more than tensors and numbers, or the model uses
            something that has no counterpart here; the message names it.
    """
    published = read_description(source / "plans.json")
    described = read_description(source / "dataset.json")
    checkpoints = _checkpoints(source)
    first = nnunet_weights.read(next(iter(checkpoints.values())))
    name = _configuration_name(source, first, published)
    try:
        plan = _plan(source, published, described, name, first.get("inference_allowed_mirroring_axes"))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _odd(source / "plans.json", f"is not as nnU-Net v2 writes it ({type(error).__name__}: {error})") from None
    (configuration,) = plan.configurations
    files: dict[str, Path | bytes] = {}
    networks = []
    for fold, path in checkpoints.items():
        found = nnunet_weights.read(path)["network_weights"]
        content = save(nnunet_weights.translate(found, configuration.architecture, file=path))
        file = f"models/{name}/fold_{fold}{SUFFIX}"
        files[file] = content
        networks.append(
            PackagedNetwork(
                key=f"{PLAN}/{name}/base_s0/fold_{fold}",
                file=file,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                precision="float16",
            )
        )
    member = PackagedMember(
        name=f"{PLAN}/{name}/base_s0", weight=1.0, configuration=configuration, networks=tuple(networks)
    )
    package = Package(
        name=plan.dataset,
        origin="nnU-Net v2",
        plan=plan,
        members=(member,),
        licence=licence,
        intended_use=intended_use,
        notes=_notes(source, described, configuration),
        version=__version__,
        torch_version=version_of("torch"),
    )
    return Contents(package, files)


def _checkpoints(source: Path) -> dict[str, Path]:
    """Return fold -> checkpoint, the final one where there are several."""
    found = {}
    for folder in sorted(source.glob("fold_*")):
        for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
            if (folder / name).is_file():
                found[check_name(folder.name.removeprefix("fold_"), what="fold", file=folder)] = folder / name
                break
    if not found:
        raise _odd(source, "holds no fold_X/checkpoint_final.pth")
    return found


def _configuration_name(source: Path, checkpoint: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    arguments = checkpoint.get("init_args")
    said = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    name = said or source.resolve().name.split("__")[-1]
    there = published.get("configurations")
    if not isinstance(there, Mapping) or name not in there:
        raise _odd(source / "plans.json", f"has no configuration {name!r}")
    return check_name(str(name), what="configuration", file=source / "plans.json")


def _plan(
    source: Path, published: Mapping[str, Any], described: Mapping[str, Any], name: str, mirror_axes: Any
) -> Plan:
    """Return the plan of the one configuration that was trained, as if it had been planned here."""
    file = source / "dataset.json"
    channels = read_channels(described.get("channel_names", described.get("modality")), file=file)
    labels, _ = read_structures(described.get("labels"), order=described.get("regions_class_order"), file=file)
    settings = _settings(published["configurations"], name)
    _require(settings, published, source / "plans.json")
    architecture = _architecture(settings, len(channels), labels.output_channels, source / "plans.json")
    configuration = _configuration(published, settings, name, channels, architecture, mirror_axes)
    because = "It was published so."
    return Plan(
        name=PLAN,
        dataset=check_name(str(published["dataset_name"]), what="data set name", file=source / "plans.json"),
        presets=(architecture.kind,),
        device=DeviceProfile(kind="cpu", name="unknown", memory_gb=0.0, fast_bfloat16=False),
        channels=channels,
        labels=labels,
        corrections=(Correction(kind="keep_axes", because="nnU-Net takes the axes as the file has them."),),
        configurations=(configuration,),
        lineup=(LineupEntry(configuration=name, share=1.0),),
        decisions=(
            Decision(what=f"{name}.patch_shape", value=str(configuration.patch_shape), because=because),
            Decision(what=f"{name}.spacing_mm", value=str(configuration.spacing_mm), because=because),
        ),
        fingerprint_digest="",
        version=__version__,
    )


def _settings(configurations: Mapping[str, Any], name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a configuration with what it inherits from others."""
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    if parent is None:
        return own
    if parent in (name, *seen):
        raise ValueError(f"{name} inherits from itself")
    return _settings(configurations, parent, (*seen, name)) | own


def _require(settings: Mapping[str, Any], published: Mapping[str, Any], file: Path) -> None:
    """Raise where the model does something that has no counterpart here."""
    reader = published.get("image_reader_writer", READERS[0])
    resampling = settings.get("resampling_fn_data", RESAMPLINGS[0])
    order = settings.get("resampling_fn_data_kwargs", {}).get("order", 3)
    odd = [
        ("reads images with", reader, reader in READERS),
        ("resamples with", resampling, resampling in RESAMPLINGS and order == 3),
        ("is a cascade's second stage behind", settings.get("previous_stage"), not settings.get("previous_stage")),
        *(("normalises with", item, item in NORMALIZATIONS) for item in settings["normalization_schemes"]),
    ]
    for what, value, known in odd:
        if not known:
            raise _odd(file, f"{what} {value}, which has no counterpart here")


def _architecture(settings: Mapping[str, Any], inputs: int, outputs: int, file: Path) -> Architecture:
    """Return the network as plain data, from plans of 2024 and later (`architecture`) or earlier (flat keys)."""
    dimensions = len(settings["patch_size"])
    if "architecture" in settings:
        class_name = str(settings["architecture"]["network_class_name"]).rpartition(".")[2]
        given = dict(settings["architecture"]["arch_kwargs"])
    else:
        class_name, given = str(settings["UNet_class_name"]), _flat(settings)
    if class_name not in NETWORKS:
        raise _odd(file, f"uses the network {class_name}, which has no counterpart here")
    _require_layers(given, dimensions, file)
    residual, stages = class_name == "ResidualEncoderUNet", int(given["n_stages"])
    blocks = given["n_blocks_per_stage" if residual else "n_conv_per_stage"]
    arguments: dict[str, JsonValue] = {
        "features": _each(given["features_per_stage"], stages),
        "strides": [[int(step) for step in stride] for stride in given["strides"]],
        "kernels": [[int(size) for size in kernel] for kernel in given["kernel_sizes"]],
        "blocks": _each(blocks, stages),
        "decoder_blocks": _each(given["n_conv_per_stage_decoder"], stages - 1),
    }
    architecture = Architecture(
        kind=NETWORKS[class_name],
        dimensions=3 if dimensions == 3 else 2,
        input_channels=inputs,
        output_channels=outputs,
        arguments=arguments,
    )
    catalog.divisor(architecture)  # says which argument is wrong
    return architecture


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    strides = settings["pool_op_kernel_sizes"]
    most, first = int(settings["unet_max_num_features"]), int(settings["UNet_base_num_features"])
    return {
        "n_stages": len(strides),
        "features_per_stage": [min(most, first * 2**stage) for stage in range(len(strides))],
        "strides": strides,
        "kernel_sizes": settings["conv_kernel_sizes"],
        "n_conv_per_stage": settings["n_conv_per_stage_encoder"],
        "n_blocks_per_stage": settings["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
    }


def _require_layers(given: Mapping[str, Any], dimensions: int, file: Path) -> None:
    norm = given.get("norm_op_kwargs") or {"eps": 1e-5, "affine": True}
    last = {
        "conv_op": (f"Conv{dimensions}d", None),
        "norm_op": (f"InstanceNorm{dimensions}d", None),
        "nonlin": ("LeakyReLU", None),
        "dropout_op": ("None", None),
    }
    for key, (wanted, _) in last.items():
        found = str(given.get(key, wanted)).rpartition(".")[2]
        if found != wanted:
            raise _odd(file, f"has {key} {found} where {wanted} is known here")
    slope = (given.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)
    plain = given.get("conv_bias", True) and norm.get("affine") and norm.get("eps", 1e-5) == 1e-5 and slope == 0.01
    extra = [key for key in ("stem_channels", "squeeze_excitation", "bottleneck_channels") if given.get(key)]
    if not plain or extra:
        raise _odd(file, f"changes the layers of its network ({', '.join(extra) or 'bias, norm or slope'})")


def _each(value: Any, length: int) -> list[JsonValue]:
    return [int(value)] * length if isinstance(value, int) else [int(item) for item in value]


def _configuration(
    published: Mapping[str, Any],
    settings: Mapping[str, Any],
    name: str,
    channels: Sequence[Channel],
    architecture: Architecture,
    mirror_axes: Any,
) -> Configuration:
    flat = architecture.dimensions == 2
    spacing = [float(size) for size in settings["spacing"]]
    patch = [int(size) for size in settings["patch_size"]]
    shape = [max(1, round(float(size))) for size in settings.get("median_image_size_in_voxels", patch)]
    axes = mirror_axes or ()  # None is what nnU-Net stores of a network that never saw a flip
    numbers = published["foreground_intensity_properties_per_channel"]
    normalizations = tuple(
        _normalization(channel.name, scheme, bool(masked), numbers[str(index)])
        for index, (channel, scheme, masked) in enumerate(
            zip(channels, settings["normalization_schemes"], settings["use_mask_for_norm"], strict=True)
        )
    )
    order = tuple(int(axis) for axis in published["transpose_forward"])
    return Configuration(
        name=name,
        preset=architecture.kind,
        axis_order=order,  # type: ignore[arg-type]
        spacing_mm=(None, *spacing) if flat else tuple(spacing),  # type: ignore[arg-type]
        patch_shape=tuple([1] * flat + patch),  # type: ignore[arg-type]
        median_shape=tuple(([1] * 3 + shape)[-3:]),  # type: ignore[arg-type]
        batch_size=int(settings["batch_size"]),
        normalizations=normalizations,
        mirror_axes=tuple(int(axis) + flat for axis in axes),
        batch_dice=bool(settings.get("batch_dice", False)),
        architecture=architecture,
        recipe=Recipe(),
        memory=MemoryEstimate(peak_bytes=0, parameters=0, step_flops=0.0),
        data_key=f"{PLAN}_{name}",
    )


def _normalization(channel: str, scheme: str, masked: bool, numbers: Mapping[str, Any]) -> Normalization:
    kind = NORMALIZATIONS[scheme]
    if kind != "ct":
        return Normalization(channel=channel, kind=kind, masked=masked and kind == "zscore")  # type: ignore[arg-type]
    return Normalization(
        channel=channel,
        kind="ct",
        lower=float(numbers["percentile_00_5"]),
        upper=float(numbers["percentile_99_5"]),
        mean=float(numbers["mean"]),
        std=float(numbers["std"]),
    )


def _notes(source: Path, described: Mapping[str, Any], configuration: Configuration) -> tuple[str, ...]:
    notes = [f"Imported from {source.resolve().name}; predicted by the same rules, trained elsewhere."]
    if (source / "postprocessing.pkl").exists():
        notes.append("postprocessing.pkl was left out: it is a program, not data.")
    if any(rule.masked for rule in configuration.normalizations):
        notes.append(
            "Intensities are normalised over voxels that are not 0, nnU-Net's mask with its holes filled: holes of 0 "
            "inside the body make a small difference."
        )
    if described.get("overwrite_image_reader_writer"):
        notes.append(f"Its images were read with {described['overwrite_image_reader_writer']}.")
    return tuple(notes)


def _odd(file: Path, what: str) -> DataError:
    fix = "Plain and residual-encoder U-Nets as nnU-Net v2 plans and trains them can be imported."
    return DataError(what, file=file, fix=fix, code="no_counterpart")
