"""The one way a case is read: its channels onto one grid, its labels as inside values on that grid."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.images import colour_labels, files, label_values, placing, slices
from autoseg.images.channels import read_channel, read_voxels
from autoseg.images.dicom import rtstruct, seg, series
from autoseg.images.motions import Pair
from autoseg.records.dataset import (
    Channel,
    Correction,
    DicomSegSource,
    DicomSource,
    FileSource,
    MaskSource,
    RtstructSource,
    RunLengthSource,
    SlicesSource,
    Source,
)
from autoseg.records.errors import DataError, UserError
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels
from autoseg.records.volumes import Image, LabelMap


def read_image(
    images: Mapping[str, Source],
    channels: Sequence[Channel],
    corrections: Sequence[Correction],
    *,
    case: str,
    kept: Path | None = None,
) -> Image:
    """Return all channels of a case on the grid of the first one that is there.

    Args:
        images: Channel name -> where it lies.
        channels: In the order of the result.
        corrections: `fill_nan`, `n4`, `resample_to_first`, `register_to_first` and `crop_foreground` act here, in
            this order; others elsewhere.
        case: For messages.
        kept: Folder in which registrations and bias fields are kept, so that each is searched for once; None keeps
            none.

    Returns:
        float32 (C, Z, Y, X), finite. `valid` is None unless a channel was resampled or is missing (an optional one:
        zeros, nowhere valid).

    Raises:
        DataError: A file cannot be read, a channel that is not optional is missing, voxels are not finite, or a
            channel lies on another grid, and no correction takes care of it.
    """
    try:
        image = _read_image(images, channels, corrections, case=case, kept=kept)
        return cropped(image, images, channels, corrections)
    except UserError as error:
        raise error.in_case(case) from None


def read_labels(
    source: Source, labels: Labels, grid: Grid, *, case: str, corrections: Sequence[Correction] = ()
) -> LabelMap:
    """Return the labels of a case as inside values on the image's grid.

    Args:
        source: A label map, one binary mask a structure, run lengths, contours (RTSTRUCT) or segments (DICOM SEG).
        labels: Which values the files may hold, and what each becomes.
        grid: Of the image.
        case: For messages.
        corrections: `resample_labels` brings labels on another grid onto the image's, by nearest neighbour;
            `drop_specks` removes stray pieces.

    Returns:
        (Z, Y, X), uint8, or int16 when there are more than 250 structures.

    Raises:
        DataError: A file cannot be read, holds values that were not declared, fractions or NaN, or lies on another
            grid than the image.
    """
    try:
        if isinstance(source, MaskSource):
            array = _read_masks(source, labels, grid, corrections, case=case)
        elif isinstance(source, RunLengthSource):
            array = slices.read_labels(source, grid.shape).astype(label_values.inside_type(labels), copy=False)
        elif isinstance(source, RtstructSource):
            array = rtstruct.paint(source, grid, dtype=label_values.inside_type(labels))
        elif isinstance(source, DicomSegSource):
            array = seg.paint(source, grid, dtype=label_values.inside_type(labels))
        elif isinstance(source, DicomSource):
            raise DataError(
                "a series of images cannot be labels", fix="Name an RTSTRUCT or a SEG file.", code="no_labels"
            )
        else:
            array = _read_label_map(source, labels, grid, corrections, case=case)
    except UserError as error:
        raise error.in_case(case) from None
    return _without_specks(LabelMap(array=array, grid=grid), labels, corrections)


def _without_specks(found: LabelMap, labels: Labels, corrections: Sequence[Correction]) -> LabelMap:
    rule = next((item for item in corrections if item.kind == "drop_specks"), None)
    if rule is None or rule.value is None:
        return found
    from autoseg.images.specks import drop_specks

    voxel_mm3 = 1000 * found.grid.voxel_ml()
    array, said = drop_specks(found.array, smallest_mm3=rule.value, voxel_mm3=voxel_mm3, values=len(labels.structures))
    return LabelMap(array=array, grid=found.grid, notes=(said,) if said else ())


def cropped(
    image: Image, there: Collection[str], channels: Sequence[Channel], corrections: Sequence[Correction]
) -> Image:
    """Return the image with 0 what lies outside a box around the body: such a rim is cropped on the way to the network.

    Args:
        image: As read.
        there: Names of the channels that the scan has.
        channels: Of the data set.
        corrections: `crop_foreground` asks for it; without it the image comes back as it is.
    """
    rule = next((item for item in corrections if item.kind == "crop_foreground"), None)
    if rule is None:
        return image
    from autoseg.images.foreground import MARGIN_MM, body_box

    index = next(number for number, channel in enumerate(channels) if channel.name in there)
    margin_mm = MARGIN_MM if rule.value is None else rule.value
    box = body_box(image.array[index], image.grid, kind=channels[index].kind, margin_mm=margin_mm)
    array = np.zeros_like(image.array)
    array[(slice(None), *box.slices())] = image.array[(slice(None), *box.slices())]
    share = 100 * math.prod(box.shape) / math.prod(image.grid.shape)
    return replace(image, array=array, notes=(*image.notes, f"cropped to the body ({share:.0f} % of the scan)"))


def _read_image(
    images: Mapping[str, Source],
    channels: Sequence[Channel],
    corrections: Sequence[Correction],
    *,
    case: str,
    kept: Path | None,
) -> Image:
    _require_channels(images, channels)
    grid: Grid | None = None
    arrays: list[np.ndarray | None] = []
    masks: list[np.ndarray | None] = []
    notes: list[str] = []
    for channel in channels:
        if channel.name not in images:
            arrays.append(None)
            masks.append(None)
            notes.append(f"channel {channel.name} is missing; it is zero everywhere")
            continue
        array, found, said = read_channel(images[channel.name], channel, corrections, kept=kept)
        valid = None
        if grid is None:
            grid, first, kind = found, array, channel.kind
        else:
            path = _file(images[channel.name])
            moved = placing.onto_first(
                Pair(array, found, first, grid, kind),
                corrections,
                channel=channel.name,
                case=case,
                file=path,
                kept=kept,
            )
            array, valid, more = moved
            said += more
        arrays.append(array)
        masks.append(valid)
        notes += [f"channel {channel.name}: {note}" for note in said]
    assert grid is not None
    return Image(array=_stack(arrays, grid), grid=grid, valid=_stack_valid(arrays, masks, grid), notes=tuple(notes))


def _require_channels(images: Mapping[str, Source], channels: Sequence[Channel]) -> None:
    missing = [channel.name for channel in channels if channel.name not in images and not channel.optional]
    there = ", ".join(images) or "none"
    if missing or not any(channel.name in images for channel in channels):
        wanted = ", ".join(missing) or "every one of " + ", ".join(channel.name for channel in channels)
        raise DataError(
            f"channel {wanted} is missing; there are: {there}",
            fix="Add the file, leave the case out, or declare the channel optional.",
            code="missing_channel",
        )


def read_grid(images: Mapping[str, Source], channels: Sequence[Channel]) -> Grid:
    """Return the grid that `read_image` would give a case, from headers alone.

    Raises:
        DataError: The first channel that is there cannot be read.
    """
    source = next(images[channel.name] for channel in channels if channel.name in images)
    if isinstance(source, DicomSource):
        return series.read_header(source).grid
    grid = files.read_header(_file(source)).grid
    if not isinstance(source, SlicesSource):
        return grid
    return Grid(shape=(len(source.paths), *grid.shape[1:]), spacing_mm=source.spacing_mm)


def _file(source: Source) -> Path:
    return Path(source.files()[0])


def _stack(arrays: Sequence[np.ndarray | None], grid: Grid) -> np.ndarray:
    if len(arrays) == 1 and arrays[0] is not None:
        return arrays[0][None]
    stacked = np.zeros((len(arrays), *grid.shape), np.float32)
    for target, array in zip(stacked, arrays, strict=True):
        if array is not None:
            target[...] = array
    return stacked


def _stack_valid(
    arrays: Sequence[np.ndarray | None], masks: Sequence[np.ndarray | None], grid: Grid
) -> np.ndarray | None:
    if all(array is not None for array in arrays) and all(mask is None for mask in masks):
        return None
    valid = np.ones((len(arrays), *grid.shape), np.bool_)
    for target, array, mask in zip(valid, arrays, masks, strict=True):
        target[...] = False if array is None else True if mask is None else mask
    return valid


def _read_label_map(
    source: FileSource | SlicesSource, labels: Labels, grid: Grid, corrections: Sequence[Correction], *, case: str
) -> np.ndarray:
    path = Path(source.files()[0])
    if labels.painted:
        array, header = colour_labels.read(path, labels)
    else:
        stored, header = read_voxels(source)
        array = label_values.inside(label_values.whole_numbers(stored, file=path), labels, file=path)
    placing.require_same_grid(header.grid, grid, file=path, case=case, corrections=corrections)
    return placing.nearest(array, header.grid, grid) if grid.difference(header.grid) else array


def _read_masks(
    source: MaskSource, labels: Labels, grid: Grid, corrections: Sequence[Correction], *, case: str
) -> np.ndarray:
    result = np.zeros(grid.shape, label_values.inside_type(labels))
    for mask in source.masks:
        path = Path(mask.path)
        stored, header = files.read_noted(path)
        if not placing.is_cutting(header.grid, grid):
            placing.require_same_grid(header.grid, grid, file=path, case=case, corrections=corrections)
        placing.paint(result, grid, label_values.positive(stored, file=path), header.grid, value=mask.value, file=path)
    return result
