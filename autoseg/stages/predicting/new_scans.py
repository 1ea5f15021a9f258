"""Predicting a scan that nobody labelled."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from autoseg.images import postprocess, regrid
from autoseg.images.fields import Field
from autoseg.images.home import home, home_regions, paint_regions, probabilities_to_keep
from autoseg.images.proposals import Foreground
from autoseg.images.slabs import Keep
from autoseg.images.tiles import bytes_held, tile_count
from autoseg.records.choice import PostprocessingStep
from autoseg.records.geometry import Box, Grid
from autoseg.records.labels import Labels
from autoseg.records.volumes import Image, LabelMap, Prediction
from autoseg.stages.predicting import streaming
from autoseg.stages.predicting.doubting import doubt_of, predict_folds, together
from autoseg.stages.predicting.fields import Earlier, Member, Options, memory_bytes, open_fields, slab_memory_of
from autoseg.stages.predicting.proposing import foreground_of
from autoseg.stages.predicting.scratch import array_on_disk, releasing
from autoseg.stages.predicting.steadying import steadiness

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
    scratch: Path | None = None,
    temperature: float | None = None,
    steady: bool = False,
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
        steady: Whether the doubt's signs tell how steady the prediction stays, too; see `steadying.steadiness`.
        probabilities: Also return probabilities on the scan's grid.
        scratch: Folder in whose file without a name they lie, float16; None: they are float32 in memory.

    Raises:
        UserError: A network gave values that are not finite.
    """
    options = options or Options()
    started = time.perf_counter()
    previous = _first_stages(image, members, first_stages or {}, case, labels, options)
    found = None
    if temperature is None:
        region = _region(image, members, case, labels, options, previous=previous) if options.fast else None
        at_home = _computed(
            image,
            members,
            case,
            labels,
            options,
            previous=previous,
            home=partial(_at_home, labels=labels, probabilities=probabilities, scratch=scratch),
            region=region,
        )
    else:
        folds = predict_folds(image, members, case=case, options=options, previous=previous)
        found = doubt_of(folds, temperature=temperature, output=labels.output)
        if steady:
            more = steadiness(image, members, case=case, output=labels.output, options=options, previous=previous)
            found = replace(found, signs=np.concatenate([found.signs, more], axis=2))
        at_home = _at_home(together(folds), math.inf, labels=labels, probabilities=probabilities, scratch=scratch)
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

    def compute(device: str, memory: float) -> Foreground:
        there = replace(options, device=device, memory_gb=memory / 2**30)
        fields = open_fields(image, [member], case=case, options=there)
        return foreground_of(fields[0], labels.output, memory_bytes=slab_memory_of(fields, [member], there))

    return streaming.within_memory(compute, options.device, memory_bytes(options), case=case)


def _region(
    image: Image,
    members: Sequence[Member],
    case: str,
    labels: Labels,
    options: Options,
    *,
    previous: Earlier,
) -> LabelMap | None:
    """Return where a quick pass finds structures: a cascade's first stage has been one already.

    None where every member is a second stage that computes nothing but its regions.
    """
    for seen in previous.values():
        if isinstance(seen, LabelMap):
            return seen
    everywhere = [member for member in members if member.configuration.regions is None]
    if not everywhere:
        return None
    chosen = coarsest(everywhere, image.grid)
    quick = replace(chosen, networks=chosen.networks[:1], keys=chosen.keys[:1], weight=1.0)
    found = _computed(image, [quick], case, labels, replace(options, mirror=False, step_fraction=1.0)).labels
    if not found.any():
        log.info("%s: the quick pass found nothing, so the whole scan is predicted", case)
    return LabelMap(found, image.grid)


def coarsest(members: Sequence[Member], grid: Grid) -> Member:
    """Return the member whose network sees the largest voxels of a scan; the first of equals."""

    def voxel_mm3(member: Member) -> float:
        everything = Box(start=(0, 0, 0), stop=grid.shape)
        own_mm = regrid.plan_passage(grid, everything, member.configuration).oriented.spacing_mm
        return math.prod(
            own if wanted is None else wanted
            for wanted, own in zip(member.configuration.spacing_mm, own_mm, strict=True)
        )

    return max(members, key=voxel_mm3)


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
    home: Callable[[Sequence[Field], float], _Home] | None = None,
    region: LabelMap | None = None,
) -> _Home:
    """Return what the members say on the scan's grid, from one pass over the windows that fits the memory."""
    home = home or partial(_at_home, labels=labels)

    def compute(device: str, memory: float) -> _Home:
        there = replace(options, device=device, memory_gb=memory / 2**30)
        fields = open_fields(image, members, case=case, options=there, previous=previous, region=region)
        allowed = slab_memory_of(fields, members, there)
        tiles = tile_count(fields, allowed)
        if tiles > 1:
            held = bytes_held(fields, allowed) / 2**30
            log.info("%s: computed in %d tiles, so that its logits take %.1f GB at once", case, tiles, held)
        return home(fields, allowed)

    return streaming.within_memory(compute, options.device, memory_bytes(options), case=case)


def _at_home(
    fields: Sequence[Field],
    memory: float,
    *,
    labels: Labels,
    probabilities: bool = False,
    scratch: Path | None = None,
) -> _Home:
    kept, keep = _to_keep(fields, labels, scratch) if probabilities else (None, None)
    if labels.regions:
        regions = home_regions(fields, memory_bytes=memory, keep=keep)
        return _Home(paint_regions(regions, labels.region_values), kept, regions)
    return _Home(home(fields, output=labels.output, memory_bytes=memory, keep=keep), kept, None)


def _to_keep(fields: Sequence[Field], labels: Labels, scratch: Path | None) -> tuple[np.ndarray, Keep]:
    if scratch is None:
        return probabilities_to_keep(fields, output=labels.output)
    classes = fields[0].array.shape[0]
    zeros, release = array_on_disk((classes, *fields[0].passage.original.shape), scratch)
    kept, keep = probabilities_to_keep(fields, output=labels.output, result=zeros)
    return kept, releasing(keep, release)


def written_values(array: np.ndarray, labels: Labels) -> np.ndarray:
    """Return a label map with the user's own values in place of the inside ones (uint8, or int32 when needed)."""
    table = np.zeros(len(labels.structures) + 2, dtype=np.int64)
    for item in labels.structures:
        table[item.value] = item.original
    kind = np.uint8 if table.max() <= 255 and table.min() >= 0 else np.int32
    values, result = table.astype(kind), np.empty(array.shape, kind)
    # Slice by slice: NumPy indexes by numbers of 8 bytes.
    for given, written in zip(array, result, strict=True):
        written[...] = values[given]
    return result
