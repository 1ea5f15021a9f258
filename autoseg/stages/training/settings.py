"""`--set key=value`: changes of the recipe, and of nothing else, for one variant of a model."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from autoseg.networks import additions
from autoseg.records.configuration import Configuration
from autoseg.records.errors import UsageError
from autoseg.records.preset import Augmentation, Recipe
from autoseg.records.record import describe

PREFIX = "augmentation."


def keys() -> tuple[str, ...]:
    """Return every key that may be set, `augmentation.*` included, in the order of the records."""
    recipe = [name for name in Recipe.model_fields if name != "augmentation"]
    return (*recipe, *(PREFIX + name for name in Augmentation.model_fields))


def apply(configuration: Configuration, settings: Mapping[str, str]) -> Configuration:
    """Return `configuration` with the recipe keys of `settings` changed.

    What follows from a key changes with it: `deep_supervision` is the network's too, and `batch_dice` the loss's.

    Args:
        configuration: Of the plan; it is not changed.
        settings: Key -> value as typed: a number, a word, `true`, `null`, or two numbers such as `0.7,1.4`.

    Raises:
        UsageError: A key is no recipe key (the message names the nearest), or a value does not fit its key.
    """
    if not settings:
        return configuration
    content: dict[str, Any] = configuration.recipe.model_dump()
    for key, text in settings.items():
        _check_key(key)
        part, name = (content["augmentation"], key[len(PREFIX) :]) if key.startswith(PREFIX) else (content, key)
        # `none` is a word of its own where a key takes words, and nothing where it takes numbers.
        part[name] = text.strip().lower() if name == "class_weights" else _value(text)
    recipe = _validated(content, settings)
    architecture = configuration.architecture.model_copy(update={"deep_supervision": recipe.deep_supervision})
    changes: dict[str, Any] = {"recipe": recipe}
    if "deep_supervision" in settings:
        changes["architecture"] = architecture
    if recipe.batch_dice is not None and "batch_dice" in settings:
        changes["batch_dice"] = recipe.batch_dice
    return configuration.model_copy(update=changes)


def _check_key(key: str) -> None:
    known = keys()
    if key in known:
        return
    near = difflib.get_close_matches(key.removeprefix("recipe."), known, n=1, cutoff=0.5)
    advice = f"Did you mean {near[0]!r}?" if near else f"Valid keys: {', '.join(known)}."
    raise UsageError(
        f"--set {key}: there is no such recipe key",
        fix=f"{advice} Spacing, patch, batch and network are set when planning, in a preset.",
        code="unknown_setting",
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if text.strip().lower() == "none":
            return None
        return [part.strip() for part in text.split(",")] if "," in text else text.strip()


def _validated(content: dict[str, Any], settings: Mapping[str, str]) -> Recipe:
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"--set: {describe(error)}", fix="See plans/README.md.", code="bad_setting") from None
    additions.check_recipe(recipe, file="--set")
    for key in settings:
        part, name = (recipe.augmentation, key[len(PREFIX) :]) if key.startswith(PREFIX) else (recipe, key)
        _check_range(key, getattr(part, name))
    return recipe


def _check_range(key: str, value: Any) -> None:
    """Refuse numbers that no run survives: negative ones, shares above 1, ranges that fall, nothing to do."""
    numbers = [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, int | float)]
    share = key.endswith(("_probability", "_fraction", "ema_decay", "plateau_factor", "layer_decay"))
    least = 1 if key in {"epochs", "steps_per_epoch", "plateau_epochs"} else 0
    wrong = any(not least <= number < float("inf") or (share and number > 1) for number in numbers)
    if wrong or numbers != sorted(numbers) or (key == "ema_decay" and value == 1):
        expected = "between 0 and 1" if share else f"{least} or more"
        ordered = ", the smaller first" if len(numbers) > 1 else ""
        raise UsageError(
            f"--set {key}={value}: out of range",
            fix=f"Expected numbers {expected}{ordered}." if ordered else f"Expected a number {expected}.",
            code="bad_setting",
        )
