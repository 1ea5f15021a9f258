"""Model files: named tensors and a few words about them, as safetensors; data, never code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from torch import Tensor, nn

from autoseg.records.errors import DataError, reason_of
from autoseg.storage import writing

_NAMED_AT_MOST = 3


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata so that the file is there whole or not at all.

    Args:
        path: The file; what stood there before stays until the new one is complete.
        tensors: Name -> tensor, on any device, of any layout; tensors that share memory are written one by one.
        metadata: Name -> text.

    Raises:
        ResourceError: The disk is full or the folder cannot be written; the old file stays.
    """
    # Copies, because safetensors refuses tensors that share memory, and another layout than contiguous.
    plain = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).contiguous()
        for name, tensor in tensors.items()
    }
    with writing(path) as temporary:
        try:
            save_file(plain, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            # It wraps what the system said; `writing` turns it into the sentence for the user.
            raise OSError(None, str(error)) from error


def load(path: Path, *, finite: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors, metadata) of a file, the tensors on the CPU.

    Args:
        path: The file.
        finite: Whether every number must be finite; a network with a NaN would predict background everywhere.

    Raises:
        DataError: The file is missing, damaged, or holds a number that is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # Copied out of the mapped file, which may be replaced or cut while the tensors are in use.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(
            "the model file does not exist",
            file=path,
            fix="Train the model, or give the right path.",
            code="no_weights",
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if finite:
        check_finite(tensors, path)
    return tensors, metadata


def parse(content: bytes, *, file: object, finite: bool = True) -> dict[str, Tensor]:
    """Return the tensors of a model file that is in memory already.

    Args:
        content: The file.
        file: Where it comes from, for the message.
        finite: As in `load`.

    Raises:
        DataError: It is damaged, or holds a number that is not finite.
    """
    try:
        tensors: dict[str, Tensor] = load_bytes(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(file, error) from None
    if finite:
        check_finite(tensors, file)
    return tensors


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], *, file: object) -> None:
    """Copy tensors into a network's parameters and buffers of the same names.

    Args:
        network: Changed in place; stays as it was when anything does not match.
        tensors: Name -> tensor, as in `network.state_dict()`.
        file: Where the tensors come from, for the message.

    Raises:
        DataError: Names or shapes differ; missing, unexpected and mismatching tensors are named in one line.
    """
    check(network, tensors, file=file)
    network.load_state_dict(dict(tensors))


def check(network: nn.Module, tensors: Mapping[str, Tensor], *, file: object) -> None:
    """Raise unless tensors have the names and shapes of the network's.

    Raises:
        DataError: As `load_into`.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    mismatching = [
        f"{name} is {_shape(tensors[name])} instead of {_shape(own[name])}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatching))
    problems = [f"{len(names)} {what}: {_some(names)}" for what, names in found if names]
    if problems:
        raise DataError(
            f"the weights do not fit the network ({'; '.join(problems)})",
            file=file,
            fix="Use the plan that the model was trained with.",
            code="weights_mismatch",
        )


def check_finite(tensors: Mapping[str, Tensor], path: object) -> None:
    """Raise unless every number is finite.

    Raises:
        DataError: One is not; the tensor and the count are named.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise DataError(
                    f"{bad} of {tensor.numel()} numbers in {name} are not finite",
                    file=path,
                    fix="The training diverged: train again with a smaller learning rate, or use another checkpoint.",
                    code="weights_not_finite",
                )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a number"


def _damaged(file: object, error: Exception) -> DataError:
    return DataError(
        f"the model file is damaged ({reason_of(error)})",
        file=file,
        fix="Copy it again from where it came, or train the model again.",
        code="damaged_weights",
    )
