"""Losses and transforms of installed packages, by entry point: a file names one, and only what is installed answers.

`autoseg.losses`: a name for `recipe.loss` -> a `LossMaker`. `autoseg.transforms`: a name for a key of
`recipe.augmentation.added` -> a `Transform`. A package cannot take the place of a loss that is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from autoseg.networks.arguments import nearest
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.preset import Recipe

if TYPE_CHECKING:
    import torch

    from autoseg.networks.losses import LevelLoss

LOSS_GROUP, TRANSFORM_GROUP = "autoseg.losses", "autoseg.transforms"
LOSSES = ("dice_ce", "dice_focal", "dice_topk", "tversky_ce", "ce")

LossMaker = Callable[[Recipe, Labels], "LevelLoss"]
"""`(recipe, labels) -> loss`; the loss takes the logits of one output, (B, K, Z, Y, X) or (B, K, Y, X), and a
`losses.Target`, and returns a float32 scalar with a gradient. It must not read a value back (`.item()`): planning runs
it on tensors without content. Deep supervision and `blob_weight` are added around it."""

Transform = Callable[..., "tuple[torch.Tensor, torch.Tensor]"]
"""`(image, labels, *, generator) -> (image, labels)` of one sample, float32 (C, Z, Y, X) and integers (Z, Y, X), after
the changes that autoseg makes; shapes and types stay. All chance comes from the generator (`torch.Generator`, CPU), so
that a resumed run sees the same. What is given may be written into."""


def check_recipe(recipe: Recipe, *, file: str | None = None) -> None:
    """Raise unless the recipe's loss and added transforms are there, without loading their code.

    Args:
        file: Where the recipe stands, for the message.

    Raises:
        UsageError: One is not there (the nearest is named), or a probability is none.
    """
    losses = (*LOSSES, *_points(LOSS_GROUP))
    if recipe.loss not in losses:
        raise UsageError(
            f"there is no loss {recipe.loss!r}", file=file, fix=nearest(recipe.loss, losses), code="no_loss"
        )
    for name, probability in recipe.augmentation.added.items():
        there = _points(TRANSFORM_GROUP)
        if name not in there:
            raise _no_transform(name, there, file)
        if not 0 <= probability <= 1:
            what = f"the probability of the transform {name!r} is {probability}"
            raise UsageError(what, file=file, fix="Give a number between 0 and 1.", code="bad_preset")


def loss(recipe: Recipe, labels: Labels) -> LevelLoss | None:
    """Return the loss that a package adds under the recipe's name, or None where it is one of autoseg's own.

    Raises:
        UsageError: There is no loss of that name, or the package names something that cannot be called.
    """
    if recipe.loss in LOSSES:
        return None
    points = _points(LOSS_GROUP)
    if recipe.loss not in points:
        fix = nearest(recipe.loss, (*LOSSES, *points))
        raise UsageError(f"there is no loss {recipe.loss!r}", fix=fix, code="no_loss")
    made: LevelLoss = _loaded(points[recipe.loss])(recipe, labels)
    return made


def transform(name: str) -> Transform:
    """Return the transform that a package adds under a name.

    Raises:
        UsageError: There is none, or the package names something that cannot be called.
    """
    points = _points(TRANSFORM_GROUP)
    if name not in points:
        raise _no_transform(name, points, None)
    return _loaded(points[name])


def _points(group: str) -> Mapping[str, EntryPoint]:
    return {item.name: item for item in entry_points(group=group) if item.name not in LOSSES}


def _no_transform(name: str, there: Iterable[str], file: str | None) -> UsageError:
    known = tuple(there)
    fix = nearest(name, known) if known else f"Install the package that adds it (entry point {TRANSFORM_GROUP})."
    return UsageError(f"no installed package adds a transform {name!r}", file=file, fix=fix, code="no_transform")


@cache
def _loaded(point: EntryPoint) -> Callable[..., Any]:
    found = point.load()
    if not callable(found):
        raise UsageError(
            f"the entry point {point.name!r} of group {point.group} is {type(found).__name__}, which cannot be called",
            file=point.value,
            fix="Let it name a function (see autoseg/networks/additions.py).",
            code="bad_entry_point",
        )
    return found  # type: ignore[no-any-return]
