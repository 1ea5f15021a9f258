"""A prediction with its doubt: one pass over every fold gives the labels and what the folds differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autoseg.images.doubt import doubt
from autoseg.images.fields import Field, Output
from autoseg.images.signs import signs_of
from autoseg.records.volumes import Doubt, Image
from autoseg.stages.predicting.fields import Earlier, Member, Options, predict_fields


def predict_folds(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    options: Options,
    previous: Earlier | None = None,
) -> list[list[Field]]:
    """Return for each member the logits of each of its folds; arguments as of `predict_fields`."""
    alone = [
        replace(member, networks=(network,), keys=(key,))
        for member in members
        for network, key in zip(member.networks, member.keys, strict=True)
    ]
    fields = iter(predict_fields(image, alone, case=case, options=options, previous=previous))
    return [[next(fields) for _ in member.networks] for member in members]


def together(folds: Sequence[Sequence[Field]]) -> list[Field]:
    """Return one field a member: the mean of its folds' logits, as `predict_fields` gives it."""
    return [replace(fields[0], array=np.mean([field.array for field in fields], axis=0)) for fields in folds]


def doubt_of(folds: Sequence[Sequence[Field]], *, temperature: float, output: Output) -> Doubt:
    """Return the doubt of an ensemble whose members have these folds.

    Voice k is the k-th fold of every member (a member with fewer folds starts again with its first), as one fold of
    each member is what a held-out case saw when the temperature was fitted.
    """
    count = max(len(fields) for fields in folds)
    scale = np.float32(1 / temperature)
    voices = [
        [replace(chosen, array=chosen.array * scale) for chosen in (fields[k % len(fields)] for fields in folds)]
        for k in range(count)
    ]
    # Without the temperature: it would lift the tails of sure background, and kept probabilities have none.
    alone = [[fields[k % len(fields)] for fields in folds] for k in range(count)]
    signs = np.stack([signs_of(fields, output=output) for fields in alone])
    return Doubt(*doubt(voices, output=output), signs)
