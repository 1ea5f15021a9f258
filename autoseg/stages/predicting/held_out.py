"""Predicting the cases that a model never saw, and keeping what it said for the selection."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from autoseg.images import store
from autoseg.images.fields import Field
from autoseg.images.home import home
from autoseg.images.steadiness import STEADINESS
from autoseg.records.labels import Labels
from autoseg.records.markers import StoredField
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages.predicting.fields import Earlier, Member, Options, predict_fields
from autoseg.stages.predicting.probabilities import to_probabilities
from autoseg.stages.predicting.steadying import steadiness
from autoseg.storage import read_record, write_record

ROUNDED_TO_NOTHING = 3e-4


def predict_held_out(
    member: Member,
    scans: Iterable[tuple[str, Image, Earlier]],
    *,
    labels: Labels,
    folder: Path,
    options: Options,
) -> Iterator[Prediction]:
    """Predict held-out cases one at a time, keep their probabilities in `folder`, and yield each prediction.

    Args:
        member: One fold of one candidate.
        scans: (case id, corrected image, what earlier stages said), read one at a time.
        labels: What is segmented.
        folder: Gets `<case>.b2nd` (probabilities on the network's grid) and `<case>.json` (StoredField).
        options: How to predict.

    Raises:
        UserError: A network gave values that are not finite; the case is named.
    """
    for case, image, previous in scans:
        started = time.perf_counter()
        (field,) = predict_fields(image, [member], case=case, options=options, previous=previous)
        store.write_probabilities(folder / f"{case}.b2nd", to_probabilities(field.array, labels.output))
        array = home([field], output=labels.output, region_values=labels.region_values)
        seconds = time.perf_counter() - started
        steady = steadiness(image, [member], case=case, output=labels.output, options=options, previous=previous)
        marker = StoredField(
            case=case,
            member=member.keys[0],
            passage=field.passage,
            inputs_digest=member.digest,
            seconds=seconds,
            steadiness=tuple(map(tuple, steady[0].tolist())),
            signs=STEADINESS,
        )
        write_record(folder / f"{case}.json", marker)
        yield Prediction(case, LabelMap(array, image.grid), member.keys, seconds=seconds)


def stored_field(folder: Path, case: str, output: str) -> Field:
    """Return what was kept of a held-out case as logits that give back its probabilities, and the way home.

    Softmax logits are the logarithms of a distribution: their exponentials add up to 1 over the classes. A class that
    was rounded to nothing keeps next to nothing; all of them together keep less than 0.0003.
    """
    marker = read_record(folder / f"{case}.json", StoredField, missing="Predict the held-out cases again.")
    kept = store.read_probabilities(folder / f"{case}.b2nd")
    least = np.float32(ROUNDED_TO_NOTHING / len(kept))
    if output == "softmax":
        np.maximum(kept, least, out=kept)
        logits = np.log(kept / kept.sum(axis=0))
    else:
        np.clip(kept, least, 1 - least, out=kept)
        logits = np.log(kept / (1 - kept))
    return Field(array=logits.astype(np.float32), passage=marker.passage)
