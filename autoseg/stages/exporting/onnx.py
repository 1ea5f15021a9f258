"""A model file -> a folder of ONNX networks beside a manifest that says how to use them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from autoseg.networks import onnx_file
from autoseg.records.package import MANIFEST, Package, PackagedMember
from autoseg.stages.predicting import Member, packages
from autoseg.storage import write_bytes, write_record


def write_onnx(model: Path, folder: Path, *, tell: Callable[[str, float], None] = lambda what, done: None) -> Package:
    """Write every network of a model file as ONNX, and last the manifest, without which the folder is no model.

    Each file takes `image`, float32 (B, C, Z, Y, X) or (B, C, Y, X), any B, normalised and on the patch that its
    configuration names, and gives `logits`, (B, K, ...).

    Args:
        model: What `write_package` wrote.
        folder: Made where there is none.
        tell: Told which network is written, and the fraction that is done.

    Raises:
        ResourceError: The packages of the extra `onnx` are not installed, or the folder cannot be written.
        DataError: The model file is damaged.
    """
    content = packages.opened(model)
    package = content.package
    names = [member.name for member in package.members]
    members, stages = packages.load_members(content, names=names)
    loaded = {member.name: member for member in (*members, *stages.values())}
    count = len(package.networks())
    converted: list[PackagedMember] = []
    for entry in (*package.members, *package.first_stages):
        tell(f"the networks of {entry.name}", sum(len(item.networks) for item in converted) / count)
        converted.append(_converted(entry, loaded[entry.name], folder))
    parts = {"members": tuple(converted[: len(names)]), "first_stages": tuple(converted[len(names) :])}
    package = package.model_copy(update=parts)
    write_record(folder / MANIFEST, package)
    return package


def _converted(member: PackagedMember, loaded: Member, folder: Path) -> PackagedMember:
    """Write the networks of one member and return what the manifest says of them."""
    configuration, networks = member.configuration, []
    patch = configuration.patch_shape[3 - configuration.dimensions :]
    for entry, network in zip(member.networks, loaded.networks, strict=True):
        file = str(Path(entry.file).with_suffix(".onnx"))
        content = onnx_file.write(network, configuration.architecture.input_channels, patch)
        write_bytes(folder / file, content)
        facts = {"file": file, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        networks.append(entry.model_copy(update={**facts, "precision": "float32"}))
    return member.model_copy(update={"networks": tuple(networks)})
