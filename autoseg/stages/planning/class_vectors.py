"""Vectors of classes from a user's file: `network.arguments.vectors_file` becomes `vectors`, which the plan carries."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.records.errors import DataError, UsageError
from autoseg.records.labels import Labels
from autoseg.records.preset import Preset
from autoseg.stages.planning.presets import VECTORS_FILE

BACKGROUND = "background"
DIGITS = 6


def with_class_vectors(preset: Preset, labels: Labels) -> Preset:
    """Return the preset with the file's vectors in the order of the network's outputs; others are returned as they are.

    Args:
        preset: Its network may name a file, JSON or NumPy's npz: name of a class -> its numbers. `background` may be
            left out; then its vector is learned.
        labels: Which classes there are.

    Raises:
        UsageError: The file is missing, or its classes are not those of the data set.
        DataError: It cannot be read, or holds something else than vectors of one length.
    """
    arguments = dict(preset.network.arguments)
    file = arguments.pop(VECTORS_FILE, None)
    if file is None:
        return preset
    path = Path(str(file)).expanduser()
    found = read_vectors(path)
    names = [name for name, _ in labels.targets]
    _check_classes(found, names, path)
    rows = ([BACKGROUND] if BACKGROUND in found and labels.output == "softmax" else []) + names
    arguments["vectors"] = [[round(float(item), DIGITS) for item in found[name]] for name in rows]
    return preset.model_copy(update={"network": preset.network.model_copy(update={"arguments": arguments})})


def read_vectors(path: Path) -> Mapping[str, np.ndarray]:
    """Return the vectors of a `.json` or `.npz` file by name, each (V,) float64, all of one length and finite.

    Raises:
        UsageError: The file is missing or has another ending.
        DataError: It cannot be read, or holds something else.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        raise UsageError("there is no such file of class vectors", file=path, fix="Check the path.") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read: {error}", file=path, fix=_FIX) from None
    vectors = {}
    for name, row in content.items():
        try:
            vector = np.asarray(row, dtype=np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{name!r} is no list of numbers", file=path, fix=_FIX) from None
        if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
            raise DataError(f"{name!r} is no vector of finite numbers", file=path, fix=_FIX)
        vectors[str(name)] = vector
    lengths = sorted({len(vector) for vector in vectors.values()})
    if len(lengths) != 1:
        raise DataError(f"holds vectors of {lengths or 'no'} numbers", file=path, fix=_FIX)
    return vectors


_FIX = "Give {name of a class: numbers}, all of one length, as JSON or as arrays of an npz file."


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        return content
    if path.suffix == ".npz":
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except OSError:
            raise
        except Exception as error:  # a damaged archive has an error of its own
            raise ValueError(str(error)) from None
    raise UsageError(f"class vectors are not read from {path.suffix or 'a file without ending'}", file=path, fix=_FIX)


def _check_classes(found: Mapping[str, Any], names: list[str], path: Path) -> None:
    missing = [name for name in names if name not in found]
    extra = [name for name in found if name not in names and name != BACKGROUND]
    if not missing and not extra:
        return
    lower = {name.lower(): name for name in extra}
    near = difflib.get_close_matches(missing[0].lower(), lower, n=1) if missing else []
    meant = f"Is {lower[near[0]]!r} meant to be {missing[0]!r}? " if near else ""
    what = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
    what += [f"has {', '.join(map(repr, extra))}, which the data set does not have"] if extra else []
    fix = f"{meant}The classes are: {', '.join(names)}."
    raise UsageError(f"the file of class vectors {' and '.join(what)}", file=path, fix=fix, code="other_classes")
