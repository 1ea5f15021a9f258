"""One channel of a case: what a file holds as finite float32 on its own grid, corrected where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.images import files, slices
from autoseg.images.dicom import series
from autoseg.images.header import VolumeHeader
from autoseg.records.dataset import Channel, Correction, DicomSource, FileSource, SlicesSource, Source
from autoseg.records.errors import DataError
from autoseg.records.geometry import Grid


def read_channel(
    source: Source, channel: Channel, corrections: Sequence[Correction], *, kept: Path | None
) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Return one channel as finite float32 (Z, Y, X), its grid, and what is odd about it.

    Args:
        source: Where it lies.
        channel: Which one.
        corrections: `fill_nan` and `n4` act here.
        kept: Folder in which bias fields are kept, or None.

    Raises:
        DataError: The file cannot be read or is no image, or voxels are not finite and no correction takes care of
            them.
    """
    if not isinstance(source, FileSource | SlicesSource | DicomSource):
        raise DataError(
            f"channel {channel.name} is given as masks, but an image must be a file",
            fix="Name one image file for it.",
            code="masks_as_image",
        )
    stored, header = read_voxels(source)
    array, said = finite_voxels(stored, channel, corrections, file=source.files()[0])
    array, more = unshaded(array, header.grid, channel, corrections, kept=kept)
    return array, header.grid, (*header.notes, *said, *more)


def read_voxels(source: FileSource | SlicesSource | DicomSource) -> tuple[np.ndarray, VolumeHeader]:
    """Return what one file, a stack of slices or a series holds: (Z, Y, X) in the stored type, and its header.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(source, DicomSource):
        return series.read(source)
    if isinstance(source, SlicesSource):
        return slices.read(source)
    return files.read_noted(Path(source.path), volume=source.volume)


def finite_voxels(
    stored: np.ndarray, channel: Channel, corrections: Sequence[Correction], *, file: object
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return one channel as finite float32, and a note where voxels were filled.

    Args:
        stored: Any shape and type.
        channel: Which one.
        corrections: `fill_nan` says what stands for what is not finite.
        file: Where it comes from, for the message.

    Raises:
        DataError: Voxels are not finite, and no correction takes care of them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array = stored.astype(np.float32, copy=False)  # what float32 cannot hold becomes inf, and is found below
    finite = np.isfinite(array)
    if finite.all():
        return array, ()
    fill = _correction(corrections, "fill_nan", channel.name)
    count = int(array.size - finite.sum())
    if fill is None or (fill.value is None and not finite.any()):
        place = tuple(int(index) for index in np.unravel_index(int(np.argmin(finite)), array.shape))
        word = "NaN" if np.isnan(array[place]) else "infinite"
        raise DataError(
            f"{count:,} of {array.size:,} voxels are not finite, the first ({word}) at {place} (z, y, x)",
            file=file,
            fix="Repair the file, or import with --nan fill=min to set them to the smallest finite value.",
            code="nan_in_image",
        )
    value = array[finite].min() if fill.value is None else np.float32(fill.value)
    filled = np.where(finite, array, value).astype(np.float32, copy=False)
    return filled, (f"{count:,} voxels that were not finite were set to {value:g}",)


def unshaded(
    array: np.ndarray,
    grid: Grid,
    channel: Channel,
    corrections: Sequence[Correction],
    *,
    kept: Path | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a channel without its bias field where the corrections ask for that, and what was done.

    Args:
        array: float32, (Z, Y, X), finite.
        grid: Where its voxels lie.
        channel: Which one.
        corrections: `n4` asks for it; without it the array itself comes back.
        kept: Folder in which fields are kept, or None.
    """
    if _correction(corrections, "n4", channel.name) is None:
        return array, ()
    from autoseg.images.bias_field import correct_bias

    corrected, said = correct_bias(array, grid, kept=kept)
    return corrected, (said,)


def _correction(corrections: Sequence[Correction], kind: str, channel: str) -> Correction | None:
    return next((item for item in corrections if item.kind == kind and item.channel in (None, channel)), None)
