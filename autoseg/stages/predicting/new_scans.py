"""Predicting a scan that nobody labelled."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoseg.images import postprocess, regrid
from autoseg.images.proposals import Foreground
from autoseg.images.regrid import Field
from autoseg.records.labels import Labels
from autoseg.records.results import PostprocessingStep
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages.predicting import streaming
from autoseg.stages.predicting.doubting import doubt_of, predict_folds, together
from autoseg.stages.predicting.fields import Earlier, Member, Options, open_fields
from autoseg.stages.predicting.proposing import foreground_of

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
    temperature: float | None = None,
) -> Prediction:
    """Return what an ensemble says of one scan, in the scan's own geometry.

    Args:
        image: The corrected scan.
        members: With their weights.
        case: For messages and the record.
        labels: What is segmented.
        postprocessing: Cleaning steps, in order.
        first_stages: Configuration name -> member, for second stages; they run by themselves.
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
        at_home = _computed(image, members, case, labels, options, previous=previous, probabilities=probabilities)
    else:
        folds = predict_folds(image, members, case=case, options=options, previous=previous)
        found = doubt_of(folds, temperature=temperature, output=labels.output)
        at_home = _at_home(together(folds), labels, math.inf, probabilities)
    array, regions = at_home.labels, at_home.regions
    if postprocessing:
        array = postprocess.apply(array, postprocessing, labels, image.grid.spacing_mm)
        if regions is not None:
            regions = postprocess.apply_to_regions(regions, postprocessing, labels, image.grid.spacing_mm)
    seconds = time.perf_counter() - started
    names = tuple(member.name for member in members)
    return Prediction(case, LabelMap(array, image.grid), names, at_home.probabilities, regions, found, seconds)


def _first_stages(
    image: Image,
    members: Sequence[Member],
    first_stages: Mapping[str, Member],
    case: str,
    labels: Labels,
    options: Options,
) -> Earlier:
    cascades = {member.configuration.previous.configuration for member in members if member.configuration.previous}
    proposing = {member.configuration.regions.configuration for member in members if member.configuration.regions}
    previous: dict[str, LabelMap | Foreground] = {}
    for stage in sorted(cascades & set(first_stages)):
        array = _computed(image, [replace(first_stages[stage], weight=1.0)], case, labels, options).labels
        previous[stage] = LabelMap(array, image.grid)
    for stage in sorted(proposing & set(first_stages)):
        previous[stage] = _proposing(image, first_stages[stage], case, labels, options)
    return previous


def _proposing(image: Image, member: Member, case: str, labels: Labels, options: Options) -> Foreground:
    """Return where a first stage sees any structure, read row by row as it is computed."""

    def compute(device: str, memory_bytes: float) -> Foreground:
        (field,) = open_fields(image, [member], case=case, options=replace(options, device=device))
        return foreground_of(field, labels.output, memory_bytes=memory_bytes)

    return streaming.within_memory(compute, options.device, _memory_bytes(options), case=case)


@dataclass(frozen=True)
class _Home:
    """What fields become on the scan's own grid; None where it is not asked for, or there are no regions."""

    labels: np.ndarray
    probabilities: np.ndarray | None
    regions: np.ndarray | None


def _computed(
    image: Image,
    members: Sequence[Member],
    case: str,
    labels: Labels,
    options: Options,
    *,
    previous: Earlier | None = None,
    probabilities: bool = False,
) -> _Home:
    """Return what the members say on the scan's grid, from one pass over the windows that fits the memory."""

    def compute(device: str, memory_bytes: float) -> _Home:
        there = replace(options, device=device)
        fields = open_fields(image, members, case=case, options=there, previous=previous)
        tiles = regrid.tile_count(fields, memory_bytes)
        if tiles > 1:
            held = regrid.bytes_held(fields, memory_bytes) / 2**30
            log.info("%s: computed in %d tiles, so that its logits take %.1f GB at once", case, tiles, held)
        return _at_home(fields, labels, memory_bytes, probabilities)

    return streaming.within_memory(compute, options.device, _memory_bytes(options), case=case)


def _memory_bytes(options: Options) -> float:
    return streaming.free_bytes(options.device) if options.memory_gb is None else options.memory_gb * 2**30


def _at_home(fields: Sequence[Field], labels: Labels, memory_bytes: float, probabilities: bool) -> _Home:
    kept, keep = regrid.probabilities_to_keep(fields, output=labels.output) if probabilities else (None, None)
    if labels.regions:
        regions = regrid.home_regions(fields, memory_bytes=memory_bytes, keep=keep)
        return _Home(regrid.paint_regions(regions, labels.region_values), kept, regions)
    return _Home(regrid.home(fields, output=labels.output, memory_bytes=memory_bytes, keep=keep), kept, None)


def written_values(array: np.ndarray, labels: Labels) -> np.ndarray:
    """Return a label map with the user's own values in place of the inside ones (uint8, or int32 when needed)."""
    table = np.zeros(len(labels.structures) + 2, dtype=np.int64)
    for item in labels.structures:
        table[item.value] = item.original
    kind = np.uint8 if table.max() <= 255 and table.min() >= 0 else np.int32
    return table.astype(kind)[array]
