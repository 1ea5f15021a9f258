"""Trained models -> what runs elsewhere: one file, ONNX networks, a container; and models from elsewhere in."""

from autoseg.stages.exporting.container import write_container
from autoseg.stages.exporting.nnunet import import_folder
from autoseg.stages.exporting.onnx import write_onnx
from autoseg.stages.exporting.package import Contents, collect, write_package

__all__ = ["Contents", "collect", "import_folder", "write_container", "write_onnx", "write_package"]
