"""Predicting a scan that nobody labelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autoseg.images import postprocess, regrid
from autoseg.records.labels import Labels
from autoseg.records.results import PostprocessingStep
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages.predicting import streaming
from autoseg.stages.predicting.fields import Member, Options, open_fields

log = logging.getLogger(__name__)


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
        probabilities: Also return probabilities on the scan's grid (needs their full size in memory).

    Raises:
        UserError: A network gave values that are not finite.
    """
    options = options or Options()
    started = time.perf_counter()
    previous = _first_stages(image, members, first_stages or {}, case, labels, options)
    array, kept = _labels(image, members, case, labels, options, previous=previous, probabilities=probabilities)
    if postprocessing:
        array = postprocess.apply(array, postprocessing, labels, image.grid.spacing_mm)
    seconds = time.perf_counter() - started
    names = tuple(member.name for member in members)
    return Prediction(case, LabelMap(array, image.grid), names, probabilities=kept, seconds=seconds)


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
        array, _ = _labels(image, [replace(first_stages[stage], weight=1.0)], case, labels, options)
        previous[stage] = LabelMap(array, image.grid)
    return previous


def _labels(
    image: Image,
    members: Sequence[Member],
    case: str,
    labels: Labels,
    options: Options,
    *,
    previous: Mapping[str, LabelMap] | None = None,
    probabilities: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return labels and, where asked for, probabilities on the scan's grid, from one pass over the windows."""

    def compute(device: str, memory_bytes: float) -> tuple[np.ndarray, np.ndarray | None]:
        there = replace(options, device=device)
        fields = open_fields(image, members, case=case, options=there, previous=previous)
        tiles = regrid.tile_count(fields, memory_bytes)
        if tiles > 1:
            held = regrid.bytes_held(fields, memory_bytes) / 2**30
            log.info("%s: computed in %d tiles, so that its logits take %.1f GB at once", case, tiles, held)
        kept, keep = regrid.probabilities_to_keep(fields, output=labels.output) if probabilities else (None, None)
        array = regrid.home(
            fields,
            output=labels.output,
            region_values=labels.region_values,
            memory_bytes=memory_bytes,
            keep=keep,
        )
        return array, kept

    memory = streaming.free_bytes(options.device) if options.memory_gb is None else options.memory_gb * 2**30
    return streaming.within_memory(compute, options.device, memory, case=case)


def written_values(array: np.ndarray, labels: Labels) -> np.ndarray:
    """Return a label map with the user's own values in place of the inside ones (uint8, or int32 when needed)."""
    table = np.zeros(len(labels.structures) + 2, dtype=np.int64)
    for item in labels.structures:
        table[item.value] = item.original
    kind = np.uint8 if table.max() <= 255 and table.min() >= 0 else np.int32
    return table.astype(kind)[array]
