"""The weights of nnU-Net v2's networks, read without running anything, under the names of ours.

Source of the names: dynamic-network-architectures 0.4, `PlainConvUNet` and `ResidualEncoderUNet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoseg.networks import catalog, weights
from autoseg.records.configuration import Architecture
from autoseg.records.errors import DataError, reason_of

# Ours -> theirs; what follows the name of a layer (`.weight`, `.bias`) is the same.
PLAIN = (
    (r"encoder\.(\d+)\.(\d+)\.(conv|norm)", r"encoder.stages.\1.0.convs.\2.\3"),
    (r"decoder\.(\d+)\.(\d+)\.(conv|norm)", r"decoder.stages.\1.convs.\2.\3"),
    (r"ups\.(\d+)", r"decoder.transpconvs.\1"),
    (r"heads\.(\d+)", r"decoder.seg_layers.\1"),
)
RESIDUAL = (
    (r"stem\.(conv|norm)", r"encoder.stem.convs.0.\1"),
    (r"encoder\.(\d+)\.(\d+)\.first\.(conv|norm)", r"encoder.stages.\1.blocks.\2.conv1.\3"),
    (r"encoder\.(\d+)\.(\d+)\.second\.(conv|norm)", r"encoder.stages.\1.blocks.\2.conv2.\3"),
    *PLAIN[1:],
)
SHORTCUT = re.compile(r"encoder\.(\d+)\.(\d+)\.shortcut\.(\d+)\.(weight|bias)")
KINDS = ("unet", "residual_unet")
# The same tensors under a second name.
TWICE = re.compile(r"\.all_modules\.|^decoder\.encoder\.")
WRAPPED = re.compile(r"^(module\.|_orig_mod\.)+")


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors, numbers, texts, lists and dicts, and nothing that could act.

    Raises:
        DataError: It is missing, damaged, or names any other object, which could run code.
    """
    try:
        # Learning curves are lists of NumPy's numbers, which are data too.
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError("is missing", file=path, fix="Copy the whole model folder.", code="no_weights") from None
    except Exception as error:  # a file made to harm can end torch's reader in any way
        reason = re.search(r"Unsupported (?:global|class|operand)[^\n.]*|GLOBAL [\w.]+", str(error))
        what = reason[0] if reason else reason_of(error)
        raise DataError(
            f"is damaged or holds more than tensors and numbers, and is not opened ({what[:160]})",
            file=path,
            fix="Ask its maker for a checkpoint as nnU-Net v2 saves it.",
            code="unsafe_checkpoint",
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), Mapping):
        raise DataError("holds no network_weights", file=path, fix="Name an nnU-Net v2 folder.", code="no_checkpoint")
    return content


def translate(found: Mapping[str, Tensor], architecture: Architecture, *, file: object) -> dict[str, Tensor]:
    """Return the tensors under our names, float32.

    Args:
        found: `network_weights` of a checkpoint.
        architecture: Of the kind `unet` or `residual_unet`, as its plans say.
        file: For the message.

    Raises:
        DataError: Tensors are missing, left over or of another shape, or not finite.
    """
    theirs = _once(found)
    network = catalog.outline(architecture)
    names = dict(_pairs(network.state_dict(), residual=architecture.kind == "residual_unet"))
    missing = [name for name in names.values() if name not in theirs]
    extra = sorted(set(theirs) - set(names.values()))
    for what, some in (("lacks", missing), ("has besides", extra)):
        if some:
            raise DataError(
                f"is of another network than its plans say: it {what} {some[0]} ({len(some)} tensors)",
                file=file,
                fix="Plain and residual-encoder U-Nets with instance norm can be imported.",
                code="weights_mismatch",
            )
    tensors = {ours: theirs[name].detach().float().contiguous() for ours, name in names.items()}
    weights.check(network, tensors, file=file)
    weights.check_finite(tensors, file)
    return tensors


def rename(found: Mapping[str, Tensor], architecture: Architecture, *, file: object) -> dict[str, Tensor]:
    """Return the tensors, float32, under our names as far as a network of `architecture` has them.

    The others keep the names that they have; shapes are not looked at.

    Raises:
        DataError: The architecture is none that nnU-Net has, or a tensor is not finite.
    """
    if architecture.kind not in KINDS:
        raise DataError(
            f"weights of nnU-Net fit its U-Nets, and this network is a {architecture.kind}",
            file=file,
            fix="Train with the preset unet or residual_unet.",
            code="nothing_fits",
        )
    theirs = {name: tensor.detach().float().contiguous() for name, tensor in _once(found).items()}
    own = catalog.outline(architecture).state_dict()
    names = dict(_pairs(own, residual=architecture.kind == "residual_unet"))
    known = {names[ours]: ours for ours in names}
    tensors = {known.get(name, name): tensor for name, tensor in theirs.items()}
    weights.check_finite(tensors, file)
    return tensors


def label_names(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what a checkpoint was trained to segment, in the order of its outputs; None where it does not say.

    A checkpoint of regions says nothing that could be compared.
    """
    described = content.get("init_args")
    described = described.get("dataset_json") if isinstance(described, Mapping) else None
    values = described.get("labels") if isinstance(described, Mapping) else None
    if not isinstance(values, Mapping) or not all(isinstance(value, int) for value in values.values()):
        return None
    named = sorted((value, str(name)) for name, value in values.items() if value > 0 and name != "ignore")
    return tuple(name for _, name in named)


def _once(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without wrappers' prefixes, each under one name."""
    theirs = {WRAPPED.sub("", name): tensor for name, tensor in found.items()}
    return {name: tensor for name, tensor in theirs.items() if not TWICE.search(name)}


def _pairs(own: Mapping[str, Tensor], *, residual: bool) -> Iterator[tuple[str, str]]:
    for name in own:
        shortcut = SHORTCUT.fullmatch(name)
        if shortcut:
            stage, block, place, field = shortcut[1], shortcut[2], int(shortcut[3]), shortcut[4]
            convolution = own[name].dim() > 1
            # Their skip is (pooling,) one layer of convolution and norm; ours keeps the two side by side.
            place = place if convolution else place - 1
            part = "conv" if convolution else "norm"
            yield name, f"encoder.stages.{stage}.blocks.{block}.skip.{place}.{part}.{field}"
            continue
        for ours, theirs in RESIDUAL if residual else PLAIN:
            if re.match(ours, name):
                yield name, re.sub("^" + ours, theirs, name)
                break
        else:
            raise AssertionError(name)


def _numbers() -> list[Any]:
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
