"""Presets: TOML files written by people, read with errors that say what is wrong and what was meant."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from autoseg.networks.additions import check_recipe
from autoseg.records.dataset import check_name
from autoseg.records.errors import UsageError
from autoseg.records.preset import Preset
from autoseg.stages.planning.networks import check_kind
from autoseg.workspace import plans_folder

VECTORS_FILE = "vectors_file"
# Arguments that name a file, found from where the preset lies.
FILES = (VECTORS_FILE, "image_encoder_file")


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that autoseg brings along."""
    return tuple(sorted(path.stem for path in (plans_folder() / "presets").glob("*.toml")))


def load_preset(name_or_path: str | Path) -> Preset:
    """Return a preset by its name, or from a TOML file.

    Args:
        name_or_path: `unet`, or a path that ends with `.toml` or holds a separator.

    Raises:
        UsageError: There is no such preset; the file is no TOML; a key or a value is wrong. All mistakes are listed.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or os.sep in text:
        path = Path(name_or_path).expanduser()
    else:
        path = plans_folder() / "presets" / f"{text}.toml"
        if text not in preset_names():
            raise _unknown(text)
    content = _read(path)
    content.setdefault("name", path.stem)
    preset = _parse(content, where=_shown(path))
    return _beside(preset, path)


def _beside(preset: Preset, path: Path) -> Preset:
    """Return the preset with the files that it names found from where the preset lies, not from here."""
    files = {key: preset.network.arguments.get(key) for key in FILES}
    found = {key: str(path.parent / Path(file).expanduser()) for key, file in files.items() if isinstance(file, str)}
    if not found:
        return preset
    arguments = preset.network.arguments | found
    return preset.model_copy(update={"network": preset.network.model_copy(update={"arguments": arguments})})


def change_preset(preset: Preset, settings: Mapping[str, str]) -> Preset:
    """Return the preset with some keys changed, as `--set network.features=16` does at planning.

    Args:
        preset: What to start from.
        settings: Key with its section -> value as TOML, or a bare word.

    Raises:
        UsageError: A key or a value is wrong.
    """
    content = preset.model_dump(mode="json", exclude_none=True)
    for key, value in settings.items():
        section = content
        *sections, last = key.split(".")
        for part in sections:
            below = section.setdefault(part, {})
            if not isinstance(below, dict):
                raise UsageError(f"key {key!r} of --set lies inside a plain value", fix=f"Set {part!r} itself.")
            section = below
        section[last] = _value(value)
    return _parse(content, where="--set")


def _unknown(name: str) -> UsageError:
    near = difflib.get_close_matches(name, preset_names(), n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(
        f"there is no preset {name!r}",
        fix=f"{meant}There are: {', '.join(preset_names())}. A file of your own is named by its path.",
        code="unknown_preset",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("there is no such preset file", file=_shown(path), fix="Check the path.") from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", file=_shown(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"is not valid TOML: {error}", file=_shown(path), fix="Mend that line.") from None


def _parse(content: dict[str, Any], *, where: str) -> Preset:
    try:
        preset = Preset.model_validate(content)
    except ValidationError as error:
        mistakes = [_mistake(item) for item in error.errors(include_url=False)]
        what = "; ".join(what for what, _ in mistakes)
        fix = " ".join(dict.fromkeys(fix for _, fix in mistakes if fix))
        raise UsageError(what, file=where, fix=fix, code="bad_preset") from None
    check_name(preset.name, what="preset name", file=where)
    check_kind(preset.network.kind, file=where)
    for recipe in (preset.recipe, *([preset.short.recipe] if preset.short else [])):
        check_recipe(recipe, file=where)
    _check_ranges(preset, where)
    return preset


def _mistake(item: Any) -> tuple[str, str]:
    *sections, key = [str(part) for part in item["loc"]]
    place = f"in [{'.'.join(sections)}]" if sections else "at the top level"
    if item["type"] == "extra_forbidden":
        valid = _keys(sections)
        near = difflib.get_close_matches(key, valid, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else f"Valid keys there: {', '.join(valid)}."
        return f"unknown key {key!r} {place}", fix
    if item["type"] == "missing":
        return f"key {key!r} is missing {place}", ""
    what = f"{key!r} {place} is {item['input']!r}: {item['msg'][:1].lower()}{item['msg'][1:]}"
    if item["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        near = difflib.get_close_matches(str(item["input"]), valid, n=1)
        return what, f"Did you mean {near[0]!r}?" if near else ""
    return what, ""


def _keys(sections: list[str]) -> list[str]:
    model: type[BaseModel] = Preset
    for section in sections:
        annotation = model.model_fields[section].annotation
        choices = (annotation, *typing.get_args(annotation))
        model = next(item for item in choices if isinstance(item, type) and issubclass(item, BaseModel))
    return list(model.model_fields)


def _check_ranges(preset: Preset, where: str) -> None:
    network, planning = preset.network, preset.planning
    least = {
        "network.features": (network.features, 1),
        "network.decoder_blocks": (network.decoder_blocks, 1),
        "network.blocks": (min(network.blocks, default=0), 1),
        "planning.min_batch": (planning.min_batch, 1),
        "planning.max_batch": (planning.max_batch, planning.min_batch),
        "planning.batch_size": (1 if planning.batch_size is None else planning.batch_size, 1),
        "planning.patch_shape": (min(planning.patch_shape or (1,)), 1),
        "planning.region_shape": (min(planning.region_shape or (1,)), 1),
        "recipe.epochs": (preset.recipe.epochs, 1),
        "recipe.steps_per_epoch": (preset.recipe.steps_per_epoch, 1),
    }
    for key, (value, smallest) in least.items():
        if value < smallest:
            raise UsageError(
                f"{key!r} is {value}", file=where, fix=f"It must be {smallest} or more.", code="bad_preset"
            )
    if network.max_stages == 1 or network.max_stages < 0:
        fix = "A U-Net has two resolutions or more; 0 means no bound."
        raise UsageError(f"'network.max_stages' is {network.max_stages}", file=where, fix=fix, code="bad_preset")
    if not 0 < planning.region_sensitivity <= 1:
        fix = "Give the share of the lesions, above 0, at most 1."
        what = f"'planning.region_sensitivity' is {planning.region_sensitivity}"
        raise UsageError(what, file=where, fix=fix, code="bad_preset")
    if planning.spacing_mm is not None and min(planning.spacing_mm) <= 0:
        fix = "Give millimetres along (z, y, x)."
        raise UsageError("'planning.spacing_mm' is not positive", file=where, fix=fix, code="bad_preset")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _shown(path: Path) -> str:
    folder = plans_folder()
    for base, prefix in ((folder, Path("plans")), (Path.cwd(), Path())):
        if path.resolve().is_relative_to(base.resolve()):
            return str(prefix / path.resolve().relative_to(base.resolve()))
    return str(path)
