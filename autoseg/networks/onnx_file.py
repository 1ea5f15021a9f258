"""Networks as ONNX: written by torch's exporter, run by onnxruntime in place of the network itself.

Both packages are an extra (`pip install autoseg[onnx]`) and are imported only here, when they are used.
"""

# B batch, C channel, K class, Z Y X voxel; 2D tensors lack Z

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoseg.records.errors import DataError, ResourceError

OPSET = 18
INPUT, OUTPUT = "image", "logits"


class OnnxNetwork(nn.Module):
    """A network that onnxruntime computes, on the CPU in float32; threads may share it."""

    def __init__(self, session: Any):
        super().__init__()
        self.session = session
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K, ...) of `x` (B, C, ...), whose voxels an axis are those that it was written for."""
        (logits,) = self.session.run([OUTPUT], {INPUT: x.detach().float().cpu().numpy()})
        return torch.from_numpy(logits).to(x.device)


def write(network: nn.Module, channels: int, patch_shape: Sequence[int]) -> bytes:
    """Return a network as an ONNX file: `image` (B, C, *patch) -> `logits` (B, K, *patch), any B, float32.

    Args:
        network: On the CPU; its training mode is restored.
        channels: C.
        patch_shape: Voxels an axis, (z, y, x) or (y, x) in 2D; they are fixed in the file.

    Raises:
        ResourceError: The package onnx is not installed.
        DataError: The exporter knows an operator of the network not.
    """
    for name in ("onnx", "onnxscript"):
        _need(name)
    training = network.training
    # Two samples: a batch of one would be taken for a constant.
    example = torch.zeros(2, channels, *patch_shape)
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            return _serialised(program)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        what = f"the network cannot be written as ONNX ({(str(error).splitlines() or [''])[0][:200]})"
        raise DataError(what, fix="Use the model file itself, which torch reads.", code="no_onnx") from None
    finally:
        network.train(training)


def _serialised(program: Any) -> bytes:
    """Return the file's bytes without what the exporter notes of this machine: paths and lines of source files."""
    model = program.model
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for item in (graph, *graph, *graph.inputs, *(value for node in graph for value in node.outputs)):
            item.doc_string = None
            item.metadata_props.clear()
    model.metadata_props.clear()
    target = io.BytesIO()
    program.save(target)
    return target.getvalue()


def load(content: bytes, *, file: object) -> OnnxNetwork:
    """Return a network that onnxruntime computes.

    Raises:
        ResourceError: The package onnxruntime is not installed.
        DataError: It is no ONNX file, or not one that `write` wrote.
    """
    runtime = _need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in (*session.get_inputs(), *session.get_outputs())]
    except Exception as error:  # its exceptions share no base
        raise _damaged(file, (str(error).splitlines() or [""])[0][:200]) from None
    if names != [INPUT, OUTPUT]:
        raise _damaged(file, f"its inputs and outputs are {', '.join(names)}")
    return OnnxNetwork(session)


def _damaged(file: object, why: str) -> DataError:
    fix = "Export the model again with `autoseg export --onnx FOLDER`."
    return DataError(f"onnxruntime cannot read this network ({why})", file=file, fix=fix, code="damaged_weights")


def _need(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ResourceError(
            f"the package {name} is not installed",
            fix="Install it with `pip install autoseg[onnx]`.",
            code="no_package",
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
