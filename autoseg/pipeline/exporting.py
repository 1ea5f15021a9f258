"""From trained models to what runs elsewhere, and from models of elsewhere to ours."""

from __future__ import annotations

import tempfile
from pathlib import Path

from autoseg.pipeline import Tell, quiet
from autoseg.records.package import Package
from autoseg.records.requests import ExportRequest
from autoseg.stages import exporting
from autoseg.storage import check_writable
from autoseg.workspace import Workspace


def export(model: Workspace | Path, request: ExportRequest, *, tell: Tell = quiet) -> Package:
    """Write what was asked for: one file, a folder of ONNX networks, a folder to build a container from.

    Args:
        model: The workspace of a data set, or a model file.
        request: What to write, and where.
        tell: Told how far the work is.

    Raises:
        UsageError: Nothing was trained or chosen yet.
        DataError: Weights are damaged, or not those that were trained.
        ResourceError: A place cannot be written, or a package that writes ONNX is missing.
    """
    for folder in filter(None, (request.onnx, request.container, request.output and request.output.parent)):
        check_writable(folder)
    if isinstance(model, Path):
        return _write_folders(model, request, tell)
    tell("collect the models", 0.0, None)
    contents = exporting.collect(
        model, request.plan, members=request.members, licence=request.licence, intended_use=request.intended_use
    )
    if request.output:
        exporting.write_package(request.output, contents)
        return _write_folders(request.output, request, tell, contents.package)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=request.container or request.onnx) as scratch:
        file = Path(scratch) / "model.zip"
        exporting.write_package(file, contents)
        return _write_folders(file, request, tell, contents.package)


def _write_folders(file: Path, request: ExportRequest, tell: Tell, package: Package | None = None) -> Package:
    if request.container:
        tell("write the container", 0.0, None)
        package = exporting.write_container(file, request.container)
    if request.onnx:
        package = exporting.write_onnx(file, request.onnx, tell=lambda what, done: tell(f"write {what}", done, None))
    assert package is not None
    return package


def import_model(source: Path, output: Path | None, *, licence: str = "", intended_use: str = "") -> Package:
    """Write a published nnU-Net v2 model folder as one of our model files; None looks at it and writes nothing.

    Raises:
        DataError: The folder is not one, holds more than tensors, or a network that is none of ours.
    """
    contents = exporting.import_folder(source, licence=licence, intended_use=intended_use)
    if output is not None:
        exporting.write_package(output, contents)
    return contents.package
