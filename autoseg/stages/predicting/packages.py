"""Reading a model file: what is checked before a number of it is used, and the networks that come out."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from autoseg.compute import archives
from autoseg.networks import catalog, onnx_file, weights
from autoseg.records.errors import DataError, UsageError
from autoseg.records.package import MANIFEST, Package, PackagedMember, PackagedNetwork
from autoseg.stages.predicting.fields import Member
from autoseg.storage import inside

LIMITS = archives.Limits(members=1000, unpacked_gb=64.0, ratio=200.0)
LARGEST_MANIFEST = 256 * 2**20
COPY_AGAIN = "Copy the model file again from where it came."


@dataclass(frozen=True)
class OpenPackage:
    """A model file whose manifest was read and whose files are those that it names.

    Attributes:
        path: The zip, or the folder of an ONNX export.
        package: Its manifest.
        digest: SHA-256 of the manifest, which stands for the whole model.
        read: Name -> content.
    """

    path: Path
    package: Package
    digest: str
    read: Callable[[str], bytes]


Read = Callable[[str, int], bytes]
"""Name and size -> content."""


def is_package(path: str | Path) -> bool:
    """Return whether this names a model file: something that ends in .zip, or a folder with a manifest."""
    return str(path).lower().endswith(".zip") or (Path(path) / MANIFEST).is_file()


def opened(path: Path) -> OpenPackage:
    """Open a model file; its manifest is read, its networks are not.

    Raises:
        DataError: It is no model file, or not whole: members are unsafe, missing, unknown, or of another size.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        sizes = {str(f.relative_to(path)): f.stat().st_size for f in sorted(path.rglob("*")) if f.is_file()}
        return _checked(path, sizes, lambda name, size: inside(path, name).read_bytes(), extra=True)
    sizes = {member.name: member.size for member in archives.list_members(path, limits=LIMITS)}
    return _checked(path, sizes, partial(_read_zipped, path), extra=False)


def load_members(
    model: OpenPackage, *, names: Sequence[str] = (), device: str = "cpu"
) -> tuple[list[Member], dict[str, Member]]:
    """Return the members of a model file and the first stages that they need, ready to predict.

    Args:
        model: An open model file.
        names: Of the members to take, equally weighted; none takes all, as they were chosen.
        device: A torch device.

    Raises:
        UsageError: There is no such member; the message lists those there are.
        DataError: A file has another hash than the manifest says, or does not fit its network.
    """
    there = {member.name: member for member in model.package.members}
    unknown = [name for name in names if name not in there]
    if unknown:
        fix = f"There is: {', '.join(there)}."
        raise UsageError(f"the model file has no member {unknown[0]!r}", file=model.path, fix=fix, code="no_member")
    taken = [there[name].model_copy(update={"weight": 1.0, "class_weights": ()}) for name in names] or list(
        there.values()
    )
    needed = {item.configuration.first_stage for item in taken}
    stages = [item for item in model.package.first_stages if item.configuration.name in needed]
    loaded = [_member(model, item, device) for item in (*taken, *stages)]
    return loaded[: len(taken)], {item.configuration.name: item for item in loaded[len(taken) :]}


def _read_zipped(path: Path, name: str, size: int) -> bytes:
    return archives.read_member(path, name, most_bytes=size, limits=LIMITS)


def _checked(path: Path, sizes: dict[str, int], read: Read, *, extra: bool) -> OpenPackage:
    """Return the open package once its files are those that its manifest names; a folder may hold more."""
    if MANIFEST not in sizes:
        fix = "Write one with `autoseg export -d NAME -o model.zip`."
        raise DataError("is no model file: it has no manifest", file=path, fix=fix, code="no_package")
    if sizes[MANIFEST] > LARGEST_MANIFEST:
        raise DataError(f"has a manifest of {sizes[MANIFEST]:,} bytes", file=path, fix=COPY_AGAIN, code="no_package")
    content = read(MANIFEST, sizes[MANIFEST])
    package = _manifest(content, path)
    wanted = {network.file: network.bytes for network in package.networks()}
    odd = [name for name in sizes if name not in wanted and name != MANIFEST]
    for name, size in wanted.items():
        if sizes.get(name) != size:
            found = f"has {sizes[name]:,} bytes" if name in sizes else "is missing"
            what = f"{name} {found}, but the manifest says {size:,} bytes"
            raise DataError(what, file=path, fix=COPY_AGAIN, code="package_mismatch")
    if odd and not extra:
        what = f"holds {odd[0]!r}, which its manifest does not name"
        raise DataError(what, file=path, fix=COPY_AGAIN, code="package_mismatch")
    return OpenPackage(path, package, hashlib.sha256(content).hexdigest(), lambda name: read(name, sizes[name]))


def _manifest(content: bytes, path: Path) -> Package:
    where = f"{path}: {MANIFEST}"
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        facts = json.loads(content)
        if facts.get("schema_version") not in (1, None):
            raise DataError(
                f"is a model file of version {facts['schema_version']!s:.20}, and this autoseg reads version 1",
                file=path,
                fix=f"Install autoseg {facts.get('version', '')!s:.20} or newer.",
                code="package_version",
            )
    try:
        return Package.parse(content, file=where)
    except DataError as error:
        raise DataError(error.what, file=where, fix=COPY_AGAIN, code="bad_manifest") from None


def _member(model: OpenPackage, member: PackagedMember, device: str) -> Member:
    return Member(
        name=member.name,
        keys=tuple(network.key for network in member.networks),
        configuration=member.configuration,
        networks=tuple(_network(model, member, network, device) for network in member.networks),
        weight=member.share,
        digest="+".join(network.sha256[:16] for network in member.networks),
    )


def _network(model: OpenPackage, member: PackagedMember, entry: PackagedNetwork, device: str) -> torch.nn.Module:
    content, where = model.read(entry.file), f"{model.path}: {entry.file}"
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        raise DataError(
            f"the weights have the hash {found[:12]}, but the manifest speaks of {entry.sha256[:12]}",
            file=where,
            fix=COPY_AGAIN,
            code="hash_mismatch",
        )
    if entry.file.endswith(".onnx"):
        return onnx_file.load(content, file=where)
    tensors = weights.parse(content, file=where)
    # Without memory first: a manifest may claim a network of any size.
    weights.check(catalog.outline(member.configuration.architecture), tensors, file=where)
    network = catalog.unfilled(member.configuration.architecture)
    weights.load_into(network, tensors, file=where)
    return network.to(device).eval()
