"""Predicting a scan that nobody labelled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autoseg.images import postprocess, regrid
from autoseg.records.labels import Labels
from autoseg.records.results import PostprocessingStep
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages.predicting.doubting import doubt_of, predict_folds, together
from autoseg.stages.predicting.fields import Member, Options, predict_fields


def predict_scan(
    image: Image,
    members: Sequence[Member],
    *,
    case: str,
    labels: Labels,
    postprocessing: Sequence[PostprocessingStep] = (),
    first_stages: Mapping[str, Member] | None = None,
    options: Options | None = None,
    probabilities: bool = False,
    temperature: float | None = None,
) -> Prediction:
    """Return what an ensemble says of one scan, in the scan's own geometry.

    Args:
        image: The corrected scan.
        members: With their weights.
        case: For messages and the record.
        labels: What is segmented.
        postprocessing: Cleaning steps, in order.
        first_stages: Configuration name -> member, for cascades; they run by themselves.
        options: How to predict.
        temperature: Also return the doubt, with logits divided by it; None: no doubt.
        probabilities: Also return probabilities on the scan's grid (needs their full size in memory).

    Raises:
        UserError: A network gave values that are not finite.
    """
    options = options or Options()
    started = time.perf_counter()
    previous = _first_stages(image, members, first_stages or {}, case, labels, options)
    found = None
    if temperature is None:
        fields = predict_fields(image, members, case=case, options=options, previous=previous)
    else:
        folds = predict_folds(image, members, case=case, options=options, previous=previous)
        fields, found = together(folds), doubt_of(folds, temperature=temperature, output=labels.output)
    regions = regrid.home_regions(fields) if labels.regions else None
    if regions is None:
        array = regrid.home(fields, output=labels.output)
    else:
        array = regrid.paint_regions(regions, labels.region_values)
    kept = regrid.home_probabilities(fields, output=labels.output) if probabilities else None
    if postprocessing:
        array = postprocess.apply(array, postprocessing, labels, image.grid.spacing_mm)
        if regions is not None:
            regions = postprocess.apply_to_regions(regions, postprocessing, labels, image.grid.spacing_mm)
    seconds = time.perf_counter() - started
    names = tuple(member.name for member in members)
    return Prediction(case, LabelMap(array, image.grid), names, kept, regions, found, seconds)


def _first_stages(
    image: Image,
    members: Sequence[Member],
    first_stages: Mapping[str, Member],
    case: str,
    labels: Labels,
    options: Options,
) -> dict[str, LabelMap]:
    needed = {member.configuration.previous.configuration for member in members if member.configuration.previous}
    previous: dict[str, LabelMap] = {}
    for stage in sorted(needed & set(first_stages)):
        fields = predict_fields(image, [replace(first_stages[stage], weight=1.0)], case=case, options=options)
        array = regrid.home(fields, output=labels.output, region_values=labels.region_values)
        previous[stage] = LabelMap(array, image.grid)
    return previous


def written_values(array: np.ndarray, labels: Labels) -> np.ndarray:
    """Return a label map with the user's own values in place of the inside ones (uint8, or int32 when needed)."""
    table = np.zeros(len(labels.structures) + 2, dtype=np.int64)
    for item in labels.structures:
        table[item.value] = item.original
    kind = np.uint8 if table.max() <= 255 and table.min() >= 0 else np.int32
    return table.astype(kind)[array]
